"""Describes how each tensor of a network is made from weight files: formats, names, dequantising, hashes."""
