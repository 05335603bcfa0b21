"""Makes calm interim text of restless hypotheses: what two looks in a row agreed on stays (LocalAgreement-2).

One stabilizer per segment in the making. Knows words only, neither audio nor time.
Source: Macháček, Dabre, Bojar, "Turning Whisper into Real-Time Transcription System", 2023.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import takewhile

from services.asr.engine import SpokenWord, join
from services.asr.metrics import FINAL_WORDS, INTERIM_WORDS, INTERIM_WORDS_TAKEN_BACK

# What is less likely right than wrong is not shown before a second look agrees.
_SHOWN_CONFIDENCE = 0.5


@dataclass(frozen=True, slots=True)
class Interim:
    """What a segment sounds like so far: `text`, made of `words`; its first `stable_characters` stay as they are."""

    text: str
    stable_characters: int
    words: tuple[str, ...] = field(default=(), compare=False)


class Stabilizer:
    """The looks at one segment so far."""

    def __init__(self) -> None:
        self._agreed: list[SpokenWord] = []
        self._before: Sequence[SpokenWord] = ()
        self._shown = False

    def look(self, words: Sequence[SpokenWord]) -> Interim:
        """Take the words of the next look and return what to show; nothing where they do not convince."""
        before, tail = self._behind_agreed(self._before), self._behind_agreed(words)
        new = [word for _, word in takewhile(_alike, zip(before, tail, strict=False))]
        self._agreed += new
        self._before = words
        tail = tail[len(new) :]
        sure = list(takewhile(lambda word: word.confidence >= _SHOWN_CONFIDENCE, tail))
        # The last word is still being said; it is only shown to show anything at all.
        if self._shown and len(sure) == len(tail):
            del sure[-1:]
        shown = [*self._agreed, *sure]
        self._shown = self._shown or bool(shown)
        return Interim(join(shown), len(join(self._agreed)), tuple(word.text for word in shown))

    def _behind_agreed(self, words: Sequence[SpokenWord]) -> Sequence[SpokenWord]:
        """Return what follows the agreed words, where `words` begins most like them (by edit distance)."""
        costs = list(range(len(words) + 1))
        for agreed in self._agreed:
            above, costs = costs, [costs[0] + 1]
            for position, word in enumerate(words):
                swap = above[position] + (_core(word.text) != _core(agreed.text))
                costs.append(min(swap, above[position + 1] + 1, costs[position] + 1))
        end = min(range(len(costs)), key=lambda end: (costs[end], abs(end - len(self._agreed))))
        return words[end:]


class Shown:
    """The interim words that a caller sees; counts those that come, and those that are taken back."""

    def __init__(self) -> None:
        self._words: Sequence[str] = ()

    def show(self, words: Sequence[str]) -> None:
        """Take note that these are shown now."""
        INTERIM_WORDS.inc(len(words) - self._kept(words))
        self._words = words

    def settle(self, words: Sequence[str]) -> None:
        """Take note that the segments that were in the making have these."""
        self._kept(words)
        FINAL_WORDS.inc(len(words))
        self._words = ()

    def _kept(self, words: Sequence[str]) -> int:
        """Return how many of the words that are shown are among `words`, in that order; the others are taken back."""
        before, after = [*map(_core, self._words)], [*map(_core, words)]
        kept = len(before)
        if after[:kept] != before:
            matcher = SequenceMatcher(None, before, after, autojunk=False)
            kept = sum(block.size for block in matcher.get_matching_blocks())
        INTERIM_WORDS_TAKEN_BACK.inc(len(before) - kept)
        return kept


def _alike(pair: tuple[SpokenWord, SpokenWord]) -> bool:
    return _core(pair[0].text) == _core(pair[1].text)


def _core(word: str) -> str:
    """Return what of a word is said: case and punctuation change as a sentence grows; a mark alone is itself."""
    return "".join(filter(str.isalnum, word.casefold())) or word
