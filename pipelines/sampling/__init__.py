"""Denoises latents: the loop, the solvers, the noise, the step cache, and the interface of an expert."""
