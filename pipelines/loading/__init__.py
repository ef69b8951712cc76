"""How weight files become a model: recognised, checked against the shapes of its networks, put together."""
