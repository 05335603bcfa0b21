"""The way of one chunk to segments, for recordings and live sessions alike: decode, align, hear again, split."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from services.asr import sentences, timing
from services.asr.aligner import Aligner
from services.asr.coverage import Gap, gaps, voice_within
from services.asr.engine import SAMPLE_RATE, Hypothesis, Options, Pcm, Utterance
from services.asr.language import Turn
from services.asr.segmenter import Chunk, Span
from services.asr.transcript import Segment, Timing

Decode = Callable[[Utterance], Awaitable[Hypothesis]]

# Voice that is worth another try; and what callers are told of, beside words and where there are none.
_LEAST_GAP_S = 1.5
_LEAST_TOLD_S, _LEAST_WORDLESS_S = 2.0, 0.5
# A gap of nearly the whole utterance would be heard as before: it is cut in two.
_WHOLE = 0.8
_MAX_DEPTH = 3


@dataclass(frozen=True, slots=True)
class Recognized:
    """What became of a chunk: its segments, and where voice was heard that has no words, in samples."""

    segments: list[Segment]
    missed: list[Span]


@dataclass(frozen=True, slots=True)
class _Placed:
    """A hypothesis with all its words' places, in samples from the utterance's first; estimated where not aligned."""

    hypothesis: Hypothesis
    spans: Sequence[Span]
    timing: Timing


class Recognizer:
    """Hears the chunks of one recording or live session."""

    def __init__(
        self, options: Options, decode: Decode, aligner: Aligner, *, alignment_turn_s: float | None = None
    ) -> None:
        """Decode with `options`; words that the engine cannot place are given to the aligner.

        Where that is not free within `alignment_turn_s`, their times are estimated.
        """
        self._options = options
        self._decode = decode
        self._aligner = aligner
        self._alignment_turn_s = alignment_turn_s

    async def recognize(self, chunk: Chunk, turn: Turn) -> Recognized:
        """Return the segments of `chunk`. Voice that the words leave out is heard again by itself."""
        try:
            return await self._recognize(chunk, turn)
        finally:
            turn.end()

    async def _recognize(self, chunk: Chunk, turn: Turn) -> Recognized:
        voiced = [(start - chunk.start, end - chunk.start) for start, end in chunk.voiced]
        hypothesis = await self._decode(Utterance(chunk.samples, turn.given, self._options))
        language = await turn.settle(hypothesis)
        if language != hypothesis.language and hypothesis.words and not turn.given:
            hypothesis = await self._decode(Utterance(chunk.samples, language, self._options))
        placed = await self._place(chunk.samples, voiced, hypothesis)
        if hypothesis.words:
            turn.count(language)
            placed = await self._fill(chunk.samples, voiced, placed, language, 1)
        missed = (
            []
            if placed.hypothesis.words and not self._tells_gaps(placed)
            else [
                (chunk.start + gap.start, chunk.start + gap.end)
                for gap in gaps(placed.hypothesis.words, placed.spans, voiced, len(chunk.samples))
                if voice_within(voiced, gap.start, gap.end)
                >= (_LEAST_TOLD_S if gap.last else _LEAST_WORDLESS_S) * SAMPLE_RATE
            ]
        )
        if not placed.hypothesis.words:
            return Recognized([], missed)
        spans = placed.spans
        if hypothesis.spans is not None:
            spans = timing.within_speech(spans, voiced)
        words = timing.place(chunk, placed.hypothesis, spans)
        return Recognized(sentences.split(words, placed.hypothesis, placed.timing, language), missed)

    async def _place(self, samples: Pcm, voiced: Sequence[Span], hypothesis: Hypothesis) -> _Placed:
        spans: Sequence[Span] | None = hypothesis.spans if hypothesis.words else ()
        if spans is None:
            words = [word.text for word in hypothesis.words]
            spans = await self._aligner.align(samples, words, turn_s=self._alignment_turn_s)
        if spans is None:
            return _Placed(hypothesis, timing.estimate(voiced, hypothesis), Timing.ESTIMATED)
        return _Placed(hypothesis, spans, Timing.ALIGNED)

    async def _fill(self, samples: Pcm, voiced: Sequence[Span], placed: _Placed, language: str, depth: int) -> _Placed:
        """Return the words of an utterance with those of its gaps, each heard by itself."""
        if not self._tells_gaps(placed):
            return placed
        found = gaps(placed.hypothesis.words, placed.spans, voiced, len(samples))
        for gap in reversed(found):
            for start, end in reversed(_parts(gap, voiced, len(samples))):
                if voice_within(voiced, start, end) < _LEAST_GAP_S * SAMPLE_RATE:
                    continue
                heard = await self._hear(samples, voiced, start, end, language, depth)
                placed = _spliced(placed, heard, start, end)
        return placed

    def _tells_gaps(self, placed: _Placed) -> bool:
        """Return whether the words are where they were said: not if estimated, nor those of a translation."""
        return placed.timing is Timing.ALIGNED and not self._options.translate

    async def _hear(
        self, samples: Pcm, voiced: Sequence[Span], start: int, end: int, language: str, depth: int
    ) -> _Placed:
        """Return what is heard from `start` to `end`, placed in the whole."""
        part = samples[start:end]
        inside = [
            (max(since, start) - start, min(until, end) - start)
            for since, until in voiced
            if since < end and until > start
        ]
        hypothesis = await self._decode(Utterance(part, language, self._options))
        placed = await self._place(part, inside, hypothesis)
        if hypothesis.words and depth < _MAX_DEPTH:
            placed = await self._fill(part, inside, placed, language, depth + 1)
        return replace(placed, spans=[(start + since, start + until) for since, until in placed.spans])


def _parts(gap: Gap, voiced: Sequence[Span], samples: int) -> list[Span]:
    """Return the stretches to hear by themselves: the gap or, where that is nearly all, what its pause parts."""
    if gap.end - gap.start < _WHOLE * samples or len(voiced) < 2:
        return [(gap.start, gap.end)] if gap.end - gap.start < samples else []
    pauses = [(before[1], after[0]) for before, after in pairwise(voiced)]
    start, end = max(pauses, key=lambda pause: pause[1] - pause[0])
    middle = (start + end) // 2
    return [(gap.start, middle), (middle, gap.end)] if gap.start < middle < gap.end else [(gap.start, gap.end)]


def _spliced(placed: _Placed, heard: _Placed, start: int, end: int) -> _Placed:
    """Return `placed` with what was heard from `start` to `end` instead of its own words there, if those are more."""
    middles = [(since + until) // 2 for since, until in placed.spans]
    first = sum(middle < start for middle in middles)
    last = sum(middle < end for middle in middles)
    if len(heard.hypothesis.words) <= last - first:
        return placed
    own, new = placed.hypothesis, heard.hypothesis
    words = (*own.words[:first], *new.words, *own.words[last:])
    spans = [*placed.spans[:first], *heard.spans, *placed.spans[last:]]
    measured = placed.timing if placed.timing is heard.timing else Timing.ESTIMATED
    return _Placed(replace(own, words=words, tokens=()), spans, measured)
