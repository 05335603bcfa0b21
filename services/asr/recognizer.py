"""The way of one chunk to segments, for recordings and live sessions alike: decode, align, split."""

from collections.abc import Awaitable, Callable

from services.asr import sentences, timing
from services.asr.aligner import Aligner
from services.asr.engine import Hypothesis, Utterance
from services.asr.language import SpokenLanguage
from services.asr.segmenter import Chunk
from services.asr.transcript import Segment

Decode = Callable[[Utterance], Awaitable[Hypothesis]]


async def recognize(
    chunk: Chunk, language: SpokenLanguage, decode: Decode, aligner: Aligner, *, turn_s: float | None = None
) -> list[Segment]:
    """Return the segments of `chunk`.

    Words are placed by the engine or, where it cannot, by the aligner; where that is not free within `turn_s`, their
    times are estimated.
    """
    async with language.known() as code:
        hypothesis = await decode(Utterance(chunk.samples, code))
        language.hear(hypothesis)
    if not hypothesis.words:
        return []
    if hypothesis.spans is None:
        spans = await aligner.align(chunk.samples, [word.text for word in hypothesis.words], turn_s=turn_s)
    else:
        spans = timing.within_speech(hypothesis.spans, chunk)
    words, source = timing.place(chunk, hypothesis, spans)
    return sentences.split(words, hypothesis, source)
