"""Runs a request on this machine, from the resolved request to the file and its receipt."""
