"""Runs many requests: the rows of a batch, their journal, and what carries them out."""
