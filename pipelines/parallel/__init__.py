"""Computes one video on several devices at once, with one process (rank) for each of them."""
