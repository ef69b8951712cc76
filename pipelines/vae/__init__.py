"""How latents become frames, and frames latents."""
