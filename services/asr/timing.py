"""Puts the words of a hypothesis on the recording's clock: by alignment, or by estimate where that failed."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from services.asr.engine import SAMPLE_RATE, Hypothesis
from services.asr.segmenter import Chunk, Span
from services.asr.transcript import Timing, Word

# Silence as long as this is no stop consonant.
_PAUSE = SAMPLE_RATE // 5


def place(chunk: Chunk, hypothesis: Hypothesis, spans: Sequence[Span] | None) -> tuple[list[Word], Timing]:
    """Return the words with times in seconds; `spans` are the alignment's, in samples from the chunk's first."""
    timing = Timing.ESTIMATED if spans is None else Timing.ALIGNED
    if spans is None:
        spans = estimate([(start - chunk.start, end - chunk.start) for start, end in chunk.voiced], hypothesis)
    # No word begins in the silence that the chunk before ended with.
    fresh = chunk.fresh - chunk.start
    words = [
        Word(
            word.text,
            (chunk.start + max(start, fresh)) / SAMPLE_RATE,
            (chunk.start + max(end, fresh)) / SAMPLE_RATE,
            word.confidence,
            word.attached,
        )
        for word, (start, end) in zip(hypothesis.words, spans, strict=True)
    ]
    return words, timing


def within_speech(spans: Sequence[Span], chunk: Chunk) -> list[Span]:
    """Return where words were said, without the pauses that their times reach over; in samples from the chunk's first.

    A word is where most of it was voiced; pauses as short as those inside a word do not part it. One that nobody was
    heard to say stays where it is. A single word is where the voice was: attention cannot tell more, since it is
    compared between words.
    """
    runs: list[Span] = []
    for start, end in chunk.voiced:
        if runs and start - chunk.start - runs[-1][1] < _PAUSE:
            runs[-1] = runs[-1][0], end - chunk.start
        else:
            runs.append((start - chunk.start, end - chunk.start))
    if len(spans) == 1 and runs:
        return [max(runs, key=lambda run: run[1] - run[0])]
    placed: list[Span] = []
    before = 0
    for span in spans:
        voiced = [(max(span[0], start), min(span[1], end)) for start, end in runs]
        start, end = max(voiced, key=lambda each: each[1] - each[0], default=span)
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
