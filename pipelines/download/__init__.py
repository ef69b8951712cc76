"""How an address becomes a file: public https only, checked at every hop, kept by its content."""
