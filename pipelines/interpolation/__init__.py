"""Computes new frames between two frames: FILM, RIFE, optical flow."""
