"""Finds the tiny model that comes with the pack, and its LoRAs."""
