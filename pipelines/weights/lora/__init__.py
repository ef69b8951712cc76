"""Reads LoRA files of every dialect, and turns them into changes to the tensors of a model."""
