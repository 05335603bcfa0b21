"""Turns tokens into text as they come."""

from collections.abc import Callable, Sequence

_INCOMPLETE = "\ufffd"


class Detokenizer:
    """Decodes one answer: all that `push` and `end` return, joined, is what `decode` makes of all tokens at once.

    Tokens are pieces of UTF-8, and a character may be spread over several. What ends within one is held back: between
    two whole characters text can be cut, and its pieces decoded each by itself.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._held: list[int] = []

    def push(self, tokens: Sequence[int]) -> str:
        """Return the text that is complete with these tokens."""
        self._held += tokens
        text = self._decode(self._held)
        if text.endswith(_INCOMPLETE):
            return ""
        self._held = []
        return text

    def end(self) -> str:
        """Return what is left: characters that never became whole."""
        return self._decode(self._held) if self._held else ""
