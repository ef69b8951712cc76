"""Turns weight files into a model: identifies them, checks every shape, puts the parts together."""
