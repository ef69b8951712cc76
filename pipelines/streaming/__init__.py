"""How the weights of an expert come to the device and leave it while it runs."""
