"""Puts the words of a hypothesis on the recording's clock: by alignment, or by estimate where that failed."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from services.asr.engine import SAMPLE_RATE, Hypothesis
from services.asr.segmenter import Chunk, Span
from services.asr.transcript import Timing, Word


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
        )
        for word, (start, end) in zip(hypothesis.words, spans, strict=True)
    ]
    return words, timing


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
