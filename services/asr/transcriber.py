"""The way of one recording from PCM to segments: several chunks at once, out in order.

Knows neither gRPC nor which engine runs. Everything is bounded: audio is only read while there is room for its chunks.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from services.asr.aligner import Aligner
from services.asr.engine import SAMPLE_RATE, Engine
from services.asr.language import SpokenLanguage
from services.asr.recognizer import Decode, recognize
from services.asr.scheduler import Scheduler
from services.asr.segmenter import Chunk, Cutting, Segmenter
from services.asr.transcript import Segment
from services.asr.vad import SileroModel, SileroStream

_PROGRESS_STEP_S = 1.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Everything before `processed_s` seconds has been dealt with."""

    processed_s: float


@dataclass(frozen=True, slots=True)
class Finished:
    """All `samples` that came have been transcribed; `language` is empty where it was not given and nobody spoke."""

    samples: int
    language: str


Event = Progress | Segment | Finished


@dataclass(frozen=True, slots=True)
class _Pending:
    """A chunk whose segments are in the making."""

    chunk: Chunk
    segments: asyncio.Task[list[Segment]]


class Transcriber:
    """Transcribes recordings with shared parts: one aligner, one network for voice activity."""

    def __init__(self, aligner: Aligner, voice: SileroModel) -> None:
        self._aligner = aligner
        self._voice = voice

    async def transcribe(
        self, pcm: AsyncIterator[bytes], engine: Engine, scheduler: Scheduler, language: str
    ) -> AsyncGenerator[Event, None]:
        """Yield segments in the order of time with progress in between, then Finished.

        `pcm` gives whole samples; what it raises is raised here. Without a `language` the first speech tells it.
        Closing the generator ends all work on the recording.
        """
        segmenter = Segmenter(SileroStream(self._voice), Cutting(max_chunk_s=scheduler.file_chunk_s(engine)))
        spoken = SpokenLanguage(language)
        begin = partial(self._begin, language=spoken, decode=partial(scheduler.decode, engine))
        # While the workers decode, one chunk is aligned and one waits for the next free worker.
        room = scheduler.workers * engine.max_batch + 2
        pending: deque[_Pending] = deque()
        reported_s = 0.0
        try:
            async for data in pcm:
                segmenter.limit(scheduler.file_chunk_s(engine))
                chunks = await asyncio.to_thread(segmenter.push, np.frombuffer(data, "<i2"))
                pending.extend(begin(chunk) for chunk in chunks)
                while pending and (len(pending) > room or pending[0].segments.done()):
                    for segment in await pending[0].segments:
                        yield segment
                    pending.popleft()
                processed_s = (pending[0].chunk.start if pending else segmenter.settled) / SAMPLE_RATE
                if processed_s >= reported_s + _PROGRESS_STEP_S:
                    yield Progress(processed_s)
                    reported_s = processed_s
            pending.extend(begin(chunk) for chunk in await asyncio.to_thread(segmenter.finish))
            while pending:
                for segment in await pending[0].segments:
                    yield segment
                yield Progress(pending.popleft().chunk.end / SAMPLE_RATE)
        finally:
            for unfinished in pending:
                unfinished.segments.cancel()
            await asyncio.gather(*(unfinished.segments for unfinished in pending), return_exceptions=True)
        yield Finished(segmenter.samples, spoken.best)

    def _begin(self, chunk: Chunk, language: SpokenLanguage, decode: Decode) -> _Pending:
        segments = recognize(chunk, language, decode, self._aligner)
        return _Pending(chunk, asyncio.create_task(segments))
