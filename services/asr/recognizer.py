"""The way of one chunk to segments, for recordings and live sessions alike: decode, align, split."""

from collections.abc import Awaitable, Callable

from services.asr import sentences, timing
from services.asr.aligner import Aligner
from services.asr.engine import Hypothesis, Utterance
from services.asr.segmenter import Chunk
from services.asr.transcript import Segment

Decode = Callable[[Utterance], Awaitable[Hypothesis]]


async def recognize(
    chunk: Chunk, language: str, decode: Decode, aligner: Aligner, *, turn_s: float | None = None
) -> list[Segment]:
    """Return the segments of `chunk`; their times are estimated when the aligner is not free within `turn_s`."""
    hypothesis = await decode(Utterance(chunk.samples, language))
    if not hypothesis.words:
        return []
    spans = await aligner.align(chunk.samples, [word.text for word in hypothesis.words], turn_s=turn_s)
    words, source = timing.place(chunk, hypothesis, spans)
    return sentences.split(words, hypothesis, source)
