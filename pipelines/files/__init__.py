"""How files get their names and come whole into their place on a disk."""
