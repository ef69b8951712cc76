"""Runs at hosted providers: what is bought is written down first, and bought once."""
