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
from services.asr.engine import SAMPLE_RATE, Engine, Options
from services.asr.language import SpokenLanguages, Turn
from services.asr.recognizer import Recognized, Recognizer
from services.asr.scheduler import Scheduler
from services.asr.segmenter import Chunk, Cutting, Segmenter, Span
from services.asr.transcript import Segment
from services.asr.vad import SileroModel, SileroStream

_PROGRESS_STEP_S = 1.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Everything before `processed_s` seconds has been dealt with."""

    processed_s: float


@dataclass(frozen=True, slots=True)
class Finished:
    """All `samples` that came have been transcribed; `language` is empty where it was not given and nobody spoke.

    `voiced_s` seconds of voice were heard; `missed` says where (seconds) there are no words for it.
    """

    samples: int
    language: str
    voiced_s: float
    missed: tuple[tuple[float, float], ...]


Event = Progress | Segment | Finished


@dataclass(frozen=True, slots=True)
class _Pending:
    """A chunk whose segments are in the making."""

    chunk: Chunk
    recognized: asyncio.Task[Recognized]


class Heard:
    """What was heard in one recording or session so far: languages, voice, and voice without words."""

    def __init__(self, language: str) -> None:
        """Begin; without a `language` each chunk tells its own."""
        self._languages = SpokenLanguages(language)
        self._voiced = 0
        self._missed: list[Span] = []

    def begin(self, chunk: Chunk) -> Turn:
        """Take note of the next chunk; return its turn in telling the language."""
        voiced = sum(end - start for start, end in chunk.voiced)
        self._voiced += voiced
        return self._languages.turn(voiced / SAMPLE_RATE)

    def take(self, recognized: Recognized) -> list[Segment]:
        """Take note of what became of the next chunk; return its segments."""
        self._missed += recognized.missed
        return recognized.segments

    def finished(self, samples: int) -> Finished:
        """Return what there is to say at the end."""
        missed = tuple((start / SAMPLE_RATE, end / SAMPLE_RATE) for start, end in self._missed)
        return Finished(samples, self._languages.most_spoken, self._voiced / SAMPLE_RATE, missed)


class Transcriber:
    """Transcribes recordings with shared parts: one aligner, one network for voice activity."""

    def __init__(self, aligner: Aligner, voice: SileroModel) -> None:
        self._aligner = aligner
        self._voice = voice

    async def transcribe(
        self, pcm: AsyncIterator[bytes], engine: Engine, scheduler: Scheduler, options: Options
    ) -> AsyncGenerator[Event, None]:
        """Yield segments in the order of time with progress in between, then Finished.

        `pcm` gives whole samples; what it raises is raised here. Without a language each piece of speech tells its own.
        Closing the generator ends all work on the recording.
        """
        segmenter = Segmenter(SileroStream(self._voice), Cutting(max_chunk_s=engine.max_chunk_s))
        heard = Heard(options.language)
        recognizer = Recognizer(options, partial(scheduler.decode, engine), self._aligner)

        def begin(chunk: Chunk) -> _Pending:
            return _Pending(chunk, asyncio.create_task(recognizer.recognize(chunk, heard.begin(chunk))))

        # While the workers decode, one chunk is aligned and one waits for the next free worker.
        room = scheduler.workers * engine.max_batch + 2
        pending: deque[_Pending] = deque()
        reported_s = 0.0
        try:
            async for data in pcm:
                chunks = await asyncio.to_thread(segmenter.push, np.frombuffer(data, "<i2"))
                pending.extend(map(begin, chunks))
                while pending and (len(pending) > room or pending[0].recognized.done()):
                    for segment in heard.take(await pending[0].recognized):
                        yield segment
                    pending.popleft()
                processed_s = (pending[0].chunk.start if pending else segmenter.settled) / SAMPLE_RATE
                if processed_s >= reported_s + _PROGRESS_STEP_S:
                    yield Progress(processed_s)
                    reported_s = processed_s
            pending.extend(map(begin, await asyncio.to_thread(segmenter.finish)))
            while pending:
                for segment in heard.take(await pending[0].recognized):
                    yield segment
                yield Progress(pending.popleft().chunk.end / SAMPLE_RATE)
        finally:
            for unfinished in pending:
                unfinished.recognized.cancel()
            await asyncio.gather(*(unfinished.recognized for unfinished in pending), return_exceptions=True)
        yield heard.finished(segmenter.samples)
