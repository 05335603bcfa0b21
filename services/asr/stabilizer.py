"""Makes calm interim text of restless hypotheses: what two looks in a row agreed on stays (LocalAgreement-2).

One stabilizer per segment in the making. Knows words only, neither audio nor time.
Source: Macháček, Dabre, Bojar, "Turning Whisper into Real-Time Transcription System", 2023.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile


@dataclass(frozen=True, slots=True)
class Interim:
    """What a segment sounds like so far; the first `stable_characters` of `text` stay as they are."""

    text: str
    stable_characters: int


class Stabilizer:
    """The looks at one segment so far."""

    def __init__(self) -> None:
        self._agreed: list[str] = []
        self._before: Sequence[str] = ()

    def look(self, words: Sequence[str]) -> Interim:
        """Take the words of the next look and return what to show."""
        known = len(self._agreed)
        pairs = zip(self._before[known:], words[known:], strict=False)
        self._agreed += [new for _, new in takewhile(lambda pair: _same(*pair), pairs)]
        self._before = words
        tail = words[len(self._agreed) :]
        return Interim(" ".join([*self._agreed, *tail]), len(" ".join(self._agreed)))


def _same(one: str, other: str) -> bool:
    return _core(one) == _core(other)


def _core(word: str) -> str:
    """Return what of a word is said: case and punctuation change as a sentence grows; a mark alone is itself."""
    return "".join(filter(str.isalnum, word.casefold())) or word
