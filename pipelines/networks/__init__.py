"""Builds and runs the networks: transformer, S2V, UMT5, CLIP, wav2vec, prompt expander, safety checker."""
