"""Names files, and writes them so that they appear complete or not at all."""
