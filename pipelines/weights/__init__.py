"""How a weight file becomes a recipe: formats, names, dequantising, hashes, LoRAs."""
