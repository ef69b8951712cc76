"""Reads media files into frames and sound, and writes frames and sound into media files."""
