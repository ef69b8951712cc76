"""How media files become frames and sound, and frames and sound become media files."""
