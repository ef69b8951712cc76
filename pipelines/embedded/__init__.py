"""Which model comes with the pack."""
