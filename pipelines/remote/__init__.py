"""How a run is bought from a provider: written down first, and bought once."""
