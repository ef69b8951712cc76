"""Files from the web that a request names: public https only, looked at, and kept by their content."""
