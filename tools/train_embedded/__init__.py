"""How the embedded model was trained: `python -m tools.train_embedded.train`, from the repository root."""
