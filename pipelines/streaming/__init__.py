"""Loads the blocks of the experts onto the device ahead of their use, and frees them afterwards."""
