"""How noise becomes latents: the loop, its solvers, noise, step cache, and what it asks of an engine."""
