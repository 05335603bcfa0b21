"""The recognition service: speech to words with times."""
