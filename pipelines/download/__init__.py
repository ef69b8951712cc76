"""Downloads a file from an address: public https only, checked at every redirect, stored by content."""
