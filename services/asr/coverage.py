"""Tells where voice was heard that no word of a hypothesis can have taken: there the recognizer stopped listening.

Whisper without timestamps ends, or jumps on, where the speaker changes inside an utterance. Its alignment then gives
all that was skipped to one word. Pure; what becomes of it is `recognizer`'s business.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from services.asr.engine import SAMPLE_RATE, SpokenWord
from services.asr.segmenter import Span

# The most voice that a word takes, in seconds: slowly said, with a pause that voice activity detection does not see.
_WORD_S, _LETTER_S, _SIGN_S = 0.8, 0.1, 0.5


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch with more voice than its words `first` to `last` (exclusive) can have taken; samples."""

    first: int
    last: int
    start: int
    end: int


def voice_within(voiced: Sequence[Span], start: int, end: int) -> int:
    """Return how many voiced samples lie from `start` to `end`."""
    return sum(max(0, min(end, until) - max(start, since)) for since, until in voiced)


def gaps(words: Sequence[SpokenWord], spans: Sequence[Span], voiced: Sequence[Span], samples: int) -> list[Gap]:
    """Return the gaps in an utterance of `samples`; neighbours are one. Without words all of it is one."""
    if not words:
        return [Gap(0, 0, 0, samples)] if voiced else []
    found: list[Gap] = []
    for place, word in enumerate(words):
        start = spans[place - 1][1] if place else 0
        end = spans[place + 1][0] if place + 1 < len(words) else samples
        if voice_within(voiced, start, end) <= _most_s(word.text) * SAMPLE_RATE:
            continue
        if found and found[-1].last == place:
            found[-1] = Gap(found[-1].first, place + 1, found[-1].start, end)
        else:
            found.append(Gap(place, place + 1, start, end))
    return found


def _most_s(text: str) -> float:
    """Return the most seconds of voice that a written word takes; digits and wide characters are said as words."""
    seconds = _WORD_S
    for character in text:
        if character.isdigit() or unicodedata.east_asian_width(character) in "WF":
            seconds += _SIGN_S
        elif character.isalpha():
            seconds += _LETTER_S
    return seconds
