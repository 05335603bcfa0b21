"""Join what was said (segments of words) with who spoke when (turns). Pure; how either was found does not belong here.

Each word has, for each speaker, evidence against it in seconds: how much of the word lies outside that speaker's turns,
and how far away the nearest one is. The cheapest assignment of a segment's words is found by dynamic programming,
where every change of speaker has a price: a low one after a sentence or a pause, a high one inside a sentence, because
both the turns' borders and the words' times are some tenths of a second off. Segments are looked at one by one, so a
whole short segment ("Yes.") never loses its speaker to its neighbours.

A word or two said by somebody else within a segment would be cheaper to give away, but are not: an aside, which is a
turn of its own around a few words and set off from what others say, keeps its speaker whatever stands around.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from statistics import fmean

from services.edge.transcript import Segment, Turn, Word, join

CHANGE_AT_BREAK_S = 0.1
"""Price of a speaker change after the end of a sentence or a pause, in seconds of contrary evidence."""
CHANGE_INSIDE_S = 0.5
"""Price of a speaker change anywhere else."""
PAUSE_S = 0.2
"""Silence between two words that may separate speakers."""
MAX_DISTANCE_S = 0.5
"""A turn this much farther away than the nearest one is simply not the word's: more distance is no more evidence."""

ASIDE_WORDS = 3
"""Most words of an aside."""
ASIDE_MARGIN_S = 0.25
"""How far an aside's turn may reach beyond its words."""
ASIDE_SILENCE_S = 0.1
"""Nobody else's speech for so long sets a turn off."""


def assign_speakers(segments: Iterable[Segment], turns: Sequence[Turn]) -> list[Segment]:
    """Give every segment a speaker, cut where the speaker changes; speakers are numbered as they first appear.

    Without any turn nobody is known and the segments come back as they are.
    """
    if not turns:
        return list(segments)
    said = list(segments)
    numbers: dict[int, int] = {}
    joined = []
    for segment, speakers in zip(said, speakers_of(said, turns), strict=True):
        pieces = groupby(zip(speakers, segment.words, strict=True), key=lambda pair: pair[0])
        cut = [(speaker, tuple(word for _, word in pairs)) for speaker, pairs in pieces]
        if not cut:
            joined.append(segment)
        for speaker, words in cut:
            number = numbers.setdefault(speaker, len(numbers) + 1)
            if len(cut) == 1:
                joined.append(replace(segment, speaker=number))
            else:
                joined.append(_piece(segment, words, number))
    return joined


def speakers_of(segments: Iterable[Segment], turns: Sequence[Turn]) -> list[list[int]]:
    """Return the speaker of every word of every segment, by the numbers that the turns have; there is at least one."""
    voices = [_Voice(speaker, turns) for speaker in {turn.speaker for turn in turns}]
    # Where two are equally near, what they are called must not decide.
    voices.sort(key=lambda voice: (voice.starts, voice.ends))
    return [_speakers_of(segment.words, voices) for segment in segments]


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
        self.starts: list[float] = []
        self.ends: list[float] = []
        for turn in sorted((t for t in turns if t.speaker == speaker), key=lambda t: t.start_s):
            if self.ends and turn.start_s <= self.ends[-1]:
                self.ends[-1] = max(self.ends[-1], turn.end_s)
            else:
                self.starts.append(turn.start_s)
                self.ends.append(turn.end_s)

    def touching(self, start_s: float, end_s: float) -> range:
        """Return the turns that have a part in this time."""
        return range(bisect_right(self.ends, start_s), bisect_left(self.starts, end_s))

    def distance_s(self, word: Word) -> float:
        """Return the seconds of `word` outside this voice's turns, plus the gap to the nearest where none touches."""
        near = self.touching(word.start_s, word.end_s)
        length_s = word.end_s - word.start_s
        if near:
            return length_s - sum(min(self.ends[i], word.end_s) - max(self.starts[i], word.start_s) for i in near)
        before = [word.start_s - self.ends[near.start - 1]] if near.start > 0 else []
        after = [self.starts[near.start] - word.end_s] if near.start < len(self.starts) else []
        return length_s + max(0.0, min(before + after))


def _speakers_of(words: Sequence[Word], voices: Sequence[_Voice]) -> list[int]:
    """Return the speaker of each word: the cheapest path through evidence and prices of changes."""
    if not words:
        return []
    asides = _asides(words, voices)
    cost = [0.0] * len(voices)
    origins: list[list[int]] = []
    for position, word in enumerate(words):
        whose = asides.get(position)
        if whose is None:
            distances = [voice.distance_s(word) for voice in voices]
            nearest = min(distances)
            against = [min(distance - nearest, MAX_DISTANCE_S) for distance in distances]
        else:
            against = [0.0 if i == whose else math.inf for i in range(len(voices))]
        if position == 0 or whose != asides.get(position - 1):
            price = 0.0
        else:
            price = CHANGE_AT_BREAK_S if _breaks(words[position - 1], word) else CHANGE_INSIDE_S
        best = min(range(len(voices)), key=cost.__getitem__)
        origin = [i if cost[i] <= cost[best] + price else best for i in range(len(voices))]
        cost = [cost[origin[i]] + (price if origin[i] != i else 0.0) + against[i] for i in range(len(voices))]
        origins.append(origin)
    path = []
    state = min(range(len(voices)), key=cost.__getitem__)
    for origin in reversed(origins):
        path.append(voices[state].speaker)
        state = origin[state]
    return path[::-1]


def _asides(words: Sequence[Word], voices: Sequence[_Voice]) -> dict[int, int]:
    """Return the words that are asides: their positions, and the voice (its index) that says each."""
    found: dict[int, int] = {}
    starts, ends = [word.start_s for word in words], [word.end_s for word in words]
    for index, voice in enumerate(voices):
        others = [other for other in voices if other is not voice]
        for turn in voice.touching(starts[0], ends[-1]):
            start_s, end_s = voice.starts[turn], voice.ends[turn]
            near = range(bisect_right(ends, start_s), bisect_left(starts, end_s))
            if len(near) > ASIDE_WORDS + 2:
                continue
            said = [i for i in near if 2 * (min(end_s, ends[i]) - max(start_s, starts[i])) >= ends[i] - starts[i]]
            if not said or len(said) > ASIDE_WORDS:
                continue
            first, last = said[0], said[-1]
            if (
                start_s >= starts[first] - ASIDE_MARGIN_S
                and end_s <= ends[last] + ASIDE_MARGIN_S
                and (
                    first == 0 or _breaks(words[first - 1], words[first]) or _silent(others, start_s - ASIDE_SILENCE_S)
                )
                and (last == len(words) - 1 or _breaks(words[last], words[last + 1]) or _silent(others, end_s))
            ):
                found |= {i: index for i in said if i not in found}
    return found


def _silent(voices: Sequence[_Voice], start_s: float) -> bool:
    """Return whether none of `voices` speaks in the ASIDE_SILENCE_S from `start_s` on."""
    return not any(voice.touching(start_s, start_s + ASIDE_SILENCE_S) for voice in voices)


def _breaks(before: Word, after: Word) -> bool:
    """Return whether a sentence ends, or a pause is, between two words."""
    return before.ends_sentence or after.start_s - before.end_s >= PAUSE_S
