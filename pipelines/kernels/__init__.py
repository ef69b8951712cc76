"""Chooses and runs the kernels for attention and element-wise work on this device."""
