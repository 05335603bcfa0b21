"""Join what was said (segments of words) with who spoke when (turns). Pure; how either was found does not belong here.

Each word has, for each speaker, evidence against it in seconds: how much of the word lies outside that speaker's turns,
and how far away the nearest one is. The cheapest assignment of a segment's words is found by dynamic programming,
where every change of speaker has a price: a low one after a sentence or a pause, a high one inside a sentence, because
both the turns' borders and the words' times are some tenths of a second off. Segments are looked at one by one, so a
whole short segment ("Yes.") never loses its speaker to its neighbours.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from statistics import fmean

from services.edge.transcript import Segment, Turn, Word, join

CHANGE_AT_BREAK_S = 0.1
"""Price of a speaker change after the end of a sentence or a pause, in seconds of contrary evidence."""
CHANGE_INSIDE_S = 0.5
"""Price of a speaker change anywhere else."""
PAUSE_S = 0.5
"""Silence between two words that may separate speakers."""
MAX_DISTANCE_S = 0.5
"""A turn this much farther away than the nearest one is simply not the word's: more distance is no more evidence."""


def assign_speakers(segments: Iterable[Segment], turns: Sequence[Turn]) -> list[Segment]:
    """Give every segment a speaker, cut where the speaker changes; speakers are numbered as they first appear.

    Without any turn nobody is known and the segments come back as they are.
    """
    if not turns:
        return list(segments)
    voices = [_Voice(speaker, turns) for speaker in sorted({turn.speaker for turn in turns})]
    numbers: dict[int, int] = {}
    joined = []
    for segment in segments:
        pieces = groupby(zip(_speakers_of(segment.words, voices), segment.words, strict=True), key=lambda pair: pair[0])
        cut = [(speaker, tuple(word for _, word in pairs)) for speaker, pairs in pieces]
        for speaker, words in cut:
            number = numbers.setdefault(speaker, len(numbers) + 1)
            if len(cut) == 1:
                joined.append(replace(segment, speaker=number))
            else:
                joined.append(_piece(segment, words, number))
    return joined


def _piece(segment: Segment, words: tuple[Word, ...], speaker: int) -> Segment:
    """Return the part of `segment` that `words` are; its confidence is the mean of theirs."""
    return replace(
        segment,
        start_s=words[0].start_s,
        end_s=words[-1].end_s,
        text=join(words),
        confidence=fmean(word.confidence for word in words),
        words=words,
        speaker=speaker,
    )


class _Voice:
    """One speaker's turns, merged where they touch, so that they can be searched."""

    def __init__(self, speaker: int, turns: Sequence[Turn]) -> None:
        self.speaker = speaker
        self._starts: list[float] = []
        self._ends: list[float] = []
        for turn in sorted((t for t in turns if t.speaker == speaker), key=lambda t: t.start_s):
            if self._ends and turn.start_s <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], turn.end_s)
            else:
                self._starts.append(turn.start_s)
                self._ends.append(turn.end_s)

    def distance_s(self, word: Word) -> float:
        """Return the seconds of `word` outside this voice's turns, plus the gap to the nearest where none touches."""
        last = bisect_right(self._starts, word.end_s)
        first = bisect_right(self._ends, word.start_s)
        overlap_s = sum(min(self._ends[i], word.end_s) - max(self._starts[i], word.start_s) for i in range(first, last))
        gap_s = 0.0
        if overlap_s <= 0:
            before = [word.start_s - self._ends[first - 1]] if first > 0 else []
            after = [self._starts[first] - word.end_s] if first < len(self._starts) else []
            gap_s = max(0.0, min(before + after))
        return word.end_s - word.start_s - overlap_s + gap_s


def _speakers_of(words: Sequence[Word], voices: Sequence[_Voice]) -> list[int]:
    """Return the speaker of each word: the cheapest path through evidence and prices of changes."""
    cost = [0.0] * len(voices)
    origins: list[list[int]] = []
    for position, word in enumerate(words):
        distances = [voice.distance_s(word) for voice in voices]
        nearest = min(distances)
        price = _change_price(words[position - 1], word) if position else 0.0
        best = min(range(len(voices)), key=cost.__getitem__)
        origin = [i if cost[i] <= cost[best] + price else best for i in range(len(voices))]
        cost = [
            cost[origin[i]] + (price if origin[i] != i else 0.0) + min(distances[i] - nearest, MAX_DISTANCE_S)
            for i in range(len(voices))
        ]
        origins.append(origin)
    path = []
    state = min(range(len(voices)), key=cost.__getitem__)
    for origin in reversed(origins):
        path.append(voices[state].speaker)
        state = origin[state]
    return path[::-1]


def _change_price(before: Word, after: Word) -> float:
    return CHANGE_AT_BREAK_S if before.ends_sentence or after.start_s - before.end_s >= PAUSE_S else CHANGE_INSIDE_S
