"""The way of a live session from PCM to events: speech begins and ends, is looked at meanwhile, becomes segments.

Knows neither gRPC nor which engine runs. Audio is read while chunks are decoded, but only so far ahead; a session has
at most one final and one look with the scheduler, so that one that sends faster than it speaks delays nobody.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace

import numpy as np

from services.asr.aligner import Aligner
from services.asr.engine import SAMPLE_RATE, Engine, Hypothesis, Options, Pcm, Utterance
from services.asr.metrics import FINAL_LATENCY, PARTIAL_LATENCY
from services.asr.recognizer import Recognizer
from services.asr.scheduler import Scheduler, Seat
from services.asr.segmenter import Chunk, Cutting, Segmenter
from services.asr.stabilizer import Interim, Shown, Stabilizer
from services.asr.transcriber import Finished, Heard
from services.asr.transcript import Segment
from services.asr.vad import FRAME, SileroModel, SileroStream
from services.common.audio import Flush
from services.common.errors import SttError

# The network runs on the event loop: 0.16 ms for two frames, less than handing them to a thread costs.
_BLOCK_FRAMES = 2
# New voice between looks until there are words to show: they are short work then, and awaited most.
_FIRST_LOOKS_S = 0.2
# Behind the cut end of a look: Moonshine takes back half as many words as without, and a third less than with 0.3 s.
_CUT_END_SILENCE_S = 0.2
# A final does not wait longer for the aligner, which recordings use too.
_ALIGNMENT_TURN_S = 0.3


@dataclass(frozen=True, slots=True)
class Listening:
    """How a session is to be heard."""

    interim: bool
    endpoint_s: float
    late_s: float


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Voice began `at_s` seconds from the session's first sample."""

    at_s: float


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """Voice was last heard `at_s` seconds from the session's first sample."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Partial:
    """What the segment sounds like that began at `start_s` and goes on; its last audio came at `came` (loop time)."""

    interim: Interim
    start_s: float
    came: float


@dataclass(frozen=True, slots=True)
class _Whole:
    """A chunk that became whole by what came at `came` (loop time)."""

    chunk: Chunk
    came: float


@dataclass(frozen=True, slots=True)
class _Early:
    """The decoding of a chunk that is whole unless the speaker, who paused at `voice_end`, goes on."""

    voice_end: int
    samples: Pcm
    decoding: asyncio.Task[Hypothesis]


Event = SpeechStarted | Partial | SpeechEnded | Segment | Finished


class LiveTranscriber:
    """Transcribes live sessions with shared parts: one aligner, one network for voice activity."""

    def __init__(self, aligner: Aligner, voice: SileroModel, *, max_ahead_s: float) -> None:
        """Read at most `max_ahead_s` seconds of a session's speech ahead of its segments."""
        self._aligner = aligner
        self._voice = voice
        self._max_ahead_s = max_ahead_s

    async def transcribe(
        self,
        pieces: AsyncIterator[bytes | Flush],
        engine: Engine,
        scheduler: Scheduler,
        options: Options,
        listening: Listening,
    ) -> AsyncGenerator[Event, None]:
        """Yield what is heard, in the order of time, then Finished; without a language each chunk tells its own.

        `pieces` gives whole samples and flushes; what it raises is raised here, after the segments of what came before.
        Closing the generator ends all work on the session.
        """
        cutting = Cutting(
            max_chunk_s=engine.max_live_chunk_s,
            max_pause_s=listening.endpoint_s,
            tail_s=engine.live_tail_s,
            block_frames=_BLOCK_FRAMES,
        )
        heard = Heard(options.language)
        now = asyncio.get_running_loop().time
        with scheduler.seat(engine, listening.late_s) as seat:
            segmenter = Segmenter(SileroStream(self._voice), cutting)
            ear = _Ear(segmenter, seat, options, interim=listening.interim, max_ahead_s=self._max_ahead_s)
            recognizer = Recognizer(options, ear.final, self._aligner, alignment_turn_s=_ALIGNMENT_TURN_S)
            reader = asyncio.create_task(ear.listen(pieces))
            reader.add_done_callback(lambda _: ear.news.set())
            partial: Partial | None = None
            shown = Shown()
            try:
                while True:
                    ear.news.clear()
                    if ear.found:
                        found = ear.found.popleft()
                        if isinstance(found, _Whole):
                            turn = heard.begin(found.chunk)
                            segments = heard.take(await recognizer.recognize(found.chunk, turn))
                            if listening.interim:
                                shown.settle([word.text for segment in segments for word in segment.words])
                            if segments:
                                FINAL_LATENCY.observe(now() - found.came)
                            for segment in segments:
                                yield segment
                            if partial and not segments:
                                yield replace(partial, interim=Interim("", 0))
                            partial = None
                            ear.settle(found.chunk)
                        else:
                            yield found
                    elif ear.partial is not None:
                        partial, ear.partial = ear.partial, None
                        shown.show(partial.interim.words)
                        PARTIAL_LATENCY.observe(now() - partial.came)
                        yield partial
                    elif reader.done():
                        break
                    else:
                        await ear.news.wait()
                yield heard.finished(await reader)
            finally:
                reader.cancel()
                ear.drop_early()
                await asyncio.gather(reader, return_exceptions=True)


class _Ear:
    """Listens to one session: fills `found` with what is certain, in order, and `partial` with the newest look."""

    def __init__(
        self, segmenter: Segmenter, seat: Seat, options: Options, *, interim: bool, max_ahead_s: float
    ) -> None:
        self.found: deque[SpeechStarted | SpeechEnded | _Whole] = deque()
        self.partial: Partial | None = None
        self.news = asyncio.Event()
        self._segmenter = segmenter
        self._seat = seat
        self._options = options
        self._interim = interim
        self._now = asyncio.get_running_loop().time
        # When the last message came, and the last that the newest look covers.
        self._came = 0.0
        self._look_came = 0.0
        self._max_ahead = max_ahead_s * SAMPLE_RATE
        self._owed = 0
        self._settled = asyncio.Event()
        self._speaking = False
        self._voice_end = 0
        self._stabilizer = Stabilizer()
        self._look: asyncio.Task[None] | None = None
        # Up to where the open chunk's voice was looked at, and whether that gave words.
        self._looked_at = 0
        self._has_words = False
        self._draft: tuple[int, ...] = ()
        self._early: _Early | None = None

    async def listen(self, pieces: AsyncIterator[bytes | Flush]) -> int:
        """Read the whole session; return its number of samples."""
        try:
            async for piece in pieces:
                self._came = self._now()
                if isinstance(piece, Flush):
                    self._tell(self._segmenter.flush(), ended=True)
                else:
                    self._hear(np.frombuffer(piece, "<i2"))
                while self._owed > self._max_ahead:
                    self._settled.clear()
                    await self._settled.wait()
            self._finish()
        except SttError:
            # What came before it is heard all the same.
            self._finish()
            raise
        finally:
            if self._look is not None:
                self._look.cancel()
                await asyncio.gather(self._look, return_exceptions=True)
        return self._segmenter.samples

    def _finish(self) -> None:
        self._came = self._now()
        self._tell(self._segmenter.finish(), ended=True)

    def settle(self, chunk: Chunk) -> None:
        """Take note that the segments of `chunk` are out."""
        self._owed -= len(chunk.samples)
        self._settled.set()

    async def final(self, utterance: Utterance) -> Hypothesis:
        """Return what the engine hears in a chunk that is whole, which may have been decoded before it was."""
        early = self._early
        if early is None or not np.array_equal(early.samples, utterance.samples):
            return await self._seat.final(utterance)
        self._early = None
        return await early.decoding

    def drop_early(self) -> None:
        """Give up what is decoded of a chunk before it is whole."""
        if self._early is not None:
            self._early.decoding.cancel()
            # Nobody asks any more whether it failed.
            self._early.decoding.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._early = None

    def _hear(self, samples: Pcm) -> None:
        # In small portions, so that a large message's end does not hide what happened in its middle.
        for start in range(0, len(samples), _BLOCK_FRAMES * FRAME):
            chunks = self._segmenter.push(samples[start : start + _BLOCK_FRAMES * FRAME])
            self._tell(chunks, ended=self._segmenter.paused)
            self._decode_early()
        if self._interim and self._early is None:
            self._look_on()

    def _decode_early(self) -> None:
        """Decode the open chunk while nobody knows yet whether it is whole, where a worker has nothing else to do."""
        speech = self._segmenter.speech
        if self._early is not None and not self._owed and (speech is None or speech[1] != self._early.voice_end):
            self.drop_early()
        if self._early or self._owed or speech is None or not self._segmenter.is_whole or not self._seat.is_free:
            return
        samples = self._segmenter.peek().samples
        utterance = Utterance(samples, self._options.language, self._options)
        self._early = _Early(speech[1], samples, asyncio.create_task(self._seat.final(utterance)))

    def _tell(self, chunks: list[Chunk], *, ended: bool) -> None:
        """Put what the segmenter found where it is sent from."""
        open_speech = self._segmenter.speech
        for chunk in chunks:
            self._begin(chunk.voiced[0][0])
            self._voice_end = chunk.voiced[-1][1]
        if open_speech is not None:
            self._begin(open_speech[0])
            self._voice_end = open_speech[1]
        if ended and self._speaking:
            self._speaking = False
            self._add(SpeechEnded(self._voice_end / SAMPLE_RATE))
        for chunk in chunks:
            self._add(_Whole(chunk, self._came))
            self._owed += len(chunk.samples)
            self._forget_looks()

    def _begin(self, position: int) -> None:
        if not self._speaking:
            self._speaking = True
            self._add(SpeechStarted(position / SAMPLE_RATE))

    def _add(self, event: SpeechStarted | SpeechEnded | _Whole) -> None:
        self.found.append(event)
        self.news.set()

    def _forget_looks(self) -> None:
        self._seat.withdraw()
        self._stabilizer = Stabilizer()
        self.partial = None
        self._looked_at = 0
        self._has_words = False
        self._draft = ()

    def _look_on(self) -> None:
        """Ask for a look at the open chunk when enough voice has come since the last."""
        speech = self._segmenter.speech
        if speech is None:
            return
        step_s = self._seat.cadence_s if self._has_words else _FIRST_LOOKS_S
        if speech[1] - max(self._looked_at, speech[0]) < step_s * SAMPLE_RATE:
            return
        if self._look is not None and self._look.done():
            # A failed look fails the session.
            self._look.result()
            self._look = None
        samples = np.pad(self._segmenter.peek().samples, (0, int(_CUT_END_SILENCE_S * SAMPLE_RATE)))
        utterance = Utterance(samples, self._options.language, self._options, self._draft, interim=True)
        if self._look is None:
            self._look = asyncio.create_task(self._show(utterance, speech[0]))
        elif not self._seat.renew(utterance):
            return
        self._looked_at = speech[1]
        self._look_came = self._came

    async def _show(self, utterance: Utterance, start: int) -> None:
        stabilizer = self._stabilizer
        hypothesis = await self._seat.look(utterance)
        # Of a chunk that became whole in the meantime, segments are on their way.
        if hypothesis is None or stabilizer is not self._stabilizer:
            return
        self._draft = hypothesis.tokens
        interim = stabilizer.look(hypothesis.words)
        if interim.text:
            self._has_words = True
            self.partial = Partial(interim, start / SAMPLE_RATE, self._look_came)
            self.news.set()
