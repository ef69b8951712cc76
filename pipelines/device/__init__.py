"""How much memory there is, and in which precision the device computes."""
