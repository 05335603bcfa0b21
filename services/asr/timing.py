"""Puts the words of a hypothesis on the recording's clock: by alignment, or by estimate where that failed."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from services.asr.engine import SAMPLE_RATE, Hypothesis
from services.asr.segmenter import Chunk, Span
from services.asr.transcript import Word

# Silence as long as this is no stop consonant.
_PAUSE = SAMPLE_RATE // 5
_LEAST_WORD = SAMPLE_RATE // 50


def place(chunk: Chunk, hypothesis: Hypothesis, spans: Sequence[Span]) -> list[Word]:
    """Return the words with times in seconds; `spans` are in samples from the chunk's first."""
    # No word begins in the silence that the chunk before ended with.
    placed = with_room(spans, chunk.fresh - chunk.start, len(chunk.samples))
    return [
        Word(
            word.text,
            (chunk.start + start) / SAMPLE_RATE,
            (chunk.start + end) / SAMPLE_RATE,
            word.confidence,
            word.attached,
        )
        for word, (start, end) in zip(hypothesis.words, placed, strict=True)
    ]


def with_room(spans: Sequence[Span], begin: int, end: int) -> list[Span]:
    """Return the spans one after the other between `begin` and `end`, none of them empty.

    What has no room where it is moves its neighbours as little as that takes.
    """
    least = max(1, min(_LEAST_WORD, (end - begin) // max(1, len(spans))))
    after: list[Span] = []
    reached = begin
    for start, until in spans:
        start = max(start, reached)
        reached = max(until, start + least)
        after.append((start, reached))
    placed: list[Span] = []
    for start, until in reversed(after):
        until = min(until, end)
        end = min(start, until - least)
        placed.append((end, until))
    return placed[::-1]


def within_speech(spans: Sequence[Span], voiced: Sequence[Span]) -> list[Span]:
    """Return where words were said, without the pauses that their times reach over; in samples from the chunk's first.

    A word is where most of it was voiced; pauses as short as those inside a word do not part it. One that nobody was
    heard to say stays where it is. A single word is where the voice was: attention cannot tell more, since it is
    compared between words.
    """
    runs: list[Span] = []
    for start, end in voiced:
        if runs and start - runs[-1][1] < _PAUSE:
            runs[-1] = runs[-1][0], end
        else:
            runs.append((start, end))
    if len(spans) == 1 and runs:
        return [max(runs, key=lambda run: run[1] - run[0])]
    placed: list[Span] = []
    before = 0
    for span in spans:
        heard = [(max(span[0], start), min(span[1], end)) for start, end in runs]
        start, end = max(heard, key=lambda each: each[1] - each[0], default=span)
        if end <= start:
            start, end = span
        start = max(start, before)
        before = max(end, start)
        placed.append((start, before))
    return placed


def estimate(voiced: Sequence[Span], hypothesis: Hypothesis) -> list[Span]:
    """Spread the words over the voiced parts, each as long as its letters make it; a word may begin before a pause."""
    weights = [1 + sum(map(str.isalnum, word.text)) for word in hypothesis.words]
    total_voice = sum(end - start for start, end in voiced)
    reached = [weight * total_voice // sum(weights) for weight in accumulate(weights, initial=0)]
    return [
        (_position(voiced, begin, at_start=True), _position(voiced, end, at_start=False))
        for begin, end in pairwise(reached)
    ]


def _position(voiced: Sequence[Span], voice: int, *, at_start: bool) -> int:
    """Return where `voice` samples of voice have been heard; at a pause, a start is behind it, an end before it."""
    for start, end in voiced:
        length = end - start
        if voice < length or (voice == length and not at_start):
            return start + voice
        voice -= length
    return voiced[-1][1]
