"""What a LoRA file changes: its dialect, the layers it names, the deltas, and what of it fits the model."""
