"""Knows which published weight files each kind needs, which of them are here, and fetches the others."""
