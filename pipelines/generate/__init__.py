"""What a run on this machine does, from the checked request to the file and its receipt."""
