"""Finds out how much memory is free, and in which precision the device computes."""
