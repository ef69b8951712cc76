"""Runs ComfyUI's MODEL, CLIP, VAE and CLIP_VISION behind the ports of `pipelines`."""
