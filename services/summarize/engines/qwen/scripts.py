"""What is to be said of a text before the model reads it: how much there is of it, and in what script."""

import unicodedata
from collections import Counter
from collections.abc import Iterator

from services.summarize.engine import Caveat

# Those of the languages that the model's authors name; of others it has seen little.
_KNOWN = {"LATIN", "CYRILLIC", "CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "ARABIC", "THAI"}
_SAMPLE_CHARS = 100_000
_LITTLE_CHARS = 20
_UNKNOWN_SCRIPT = Caveat(
    "LANGUAGE_UNCERTAIN", "The text is in a script that this model has seen little of; the summary may be poor."
)
_LITTLE_TEXT = Caveat("LITTLE_TEXT", "The text is too short to be summarized; the answer may say more than it does.")


def caveats(text: str) -> Iterator[Caveat]:
    """Yield what a reader of the summary should know of the text."""
    letters = Counter(char for char in text[:_SAMPLE_CHARS] if char.isalpha())
    known = sum(count for letter, count in letters.items() if _script(letter) in _KNOWN)
    if known * 2 < letters.total():
        yield _UNKNOWN_SCRIPT
    if sum(char.isalnum() for char in text[:_SAMPLE_CHARS]) < _LITTLE_CHARS:
        yield _LITTLE_TEXT


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]
