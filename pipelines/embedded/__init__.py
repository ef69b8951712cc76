"""Finds the tiny model that comes with the pack, and its LoRAs. Measures what its clips show."""
