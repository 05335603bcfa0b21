"""Writes a list of words down as people do; the lists themselves stand where they are used."""


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text that are parted by white space."""
    return frozenset(text.split())
