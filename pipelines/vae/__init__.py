"""Decodes latents into frames, and encodes frames into latents."""
