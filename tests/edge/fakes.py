"""Services that speak the real protos over real gRPC and do what a test says: faults, and what real ones rarely do."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from stt.asr.v1 import asr_pb2, asr_pb2_grpc
from stt.common.v1 import common_pb2
from stt.diarize.v1 import diarize_pb2, diarize_pb2_grpc
from stt.summarize.v1 import summarize_pb2, summarize_pb2_grpc

from services.common.errors import Reason, SttError
from services.common.server import GrpcServer
from services.common.settings import GrpcSettings

SAMPLE_BYTES_PER_S = 32_000


def segment(
    start_s: float, *words: str, word_s: float = 0.3, confidence: float = 0.9, language: str = ""
) -> asr_pb2.Segment:
    """Words one after the other, without gaps; a `+` attaches a word to the one before it."""
    return asr_pb2.Segment(
        start_s=start_s,
        end_s=start_s + word_s * len(words),
        text=written(words),
        confidence=confidence,
        words=[
            asr_pb2.Word(
                text=word.removeprefix("+"),
                start_s=start_s + i * word_s,
                end_s=start_s + (i + 1) * word_s,
                confidence=confidence,
                attached=word.startswith("+"),
            )
            for i, word in enumerate(words)
        ],
        timing=asr_pb2.TIMING_ALIGNED,
        language=language,
    )


def written(words: Sequence[str]) -> str:
    """The text of such words."""
    return " ".join(words).replace(" +", "").removeprefix("+")


class FakeAsr(asr_pb2_grpc.AsrServiceServicer):
    """Hears everything, then says `segments`, waits for `proceed`, and finishes or fails with `error`."""

    def __init__(self, segments: Sequence[asr_pb2.Segment] = ()) -> None:
        self.segments = list(segments)
        self.refusal: SttError | None = None
        self.full: SttError | None = None
        self.error: SttError | None = None
        self.warnings: list[str] = []
        self.voiced_s = 0.0
        self.models = [
            asr_pb2.Model(id="fake-en", name="Fake", languages=["en"], speed=asr_pb2.SPEED_FAST, available=True)
        ]
        self.device = asr_pb2.Device(kind="cpu")
        self.proceed = asyncio.Event()
        self.proceed.set()
        self.listening = asyncio.Event()
        self.said = asyncio.Event()
        self.ended = asyncio.Event()
        self.config = self.asked = asr_pb2.TranscribeConfig()
        self.metadata: dict[str, Any] = {}
        self.largest_bytes = 0
        self.pcm = bytearray()
        """What the last recording was."""

    async def Transcribe(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        self.metadata = dict(context.invocation_metadata())
        self.ended.clear()
        try:
            self.config = await _config(request_iterator)
            if self.refusal:
                raise self.refusal
            yield asr_pb2.TranscribeResponse(started=asr_pb2.TranscribeStarted(model="fake-en"))
            self.listening.set()
            self.pcm.clear()
            async for request in request_iterator:
                self.largest_bytes = max(self.largest_bytes, len(request.audio))
                self.pcm += request.audio
            for said in self.segments:
                yield asr_pb2.TranscribeResponse(segment=said)
                yield asr_pb2.TranscribeResponse(progress=common_pb2.Progress(processed_s=said.end_s))
            self.said.set()
            await self.proceed.wait()
            if self.error:
                raise self.error
            yield asr_pb2.TranscribeResponse(
                finished=asr_pb2.TranscribeFinished(
                    samples=len(self.pcm) // 2,
                    duration_s=len(self.pcm) / SAMPLE_BYTES_PER_S,
                    language="en",
                    warnings=_warnings(self.warnings),
                    voiced_s=self.voiced_s,
                )
            )
        finally:
            self.ended.set()

    async def CheckRoom(self, request: asr_pb2.CheckRoomRequest, context: Any) -> asr_pb2.CheckRoomResponse:
        self.asked = request.config
        if self.full:
            raise self.full
        return asr_pb2.CheckRoomResponse()

    async def ListModels(self, request: Any, context: Any) -> Any:  # type: ignore[override]
        return asr_pb2.ListModelsResponse(models=self.models, device=self.device)


class FakeLiveAsr(FakeAsr):
    """Takes every second of a session's audio for a word (or more, or none): a partial tells it, every other a segment.

    Sessions are in `sessions`, in the order of their coming, and stay there when they are over.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sessions: list[FakeSession] = []
        self.began = asyncio.Condition()
        self.taking = asyncio.Event()
        self.taking.set()
        self.words_per_s = 1
        self.word = "word"
        self.language = "en"
        self.last_warnings: list[str] = []

    @property
    def running(self) -> int:
        return sum(not session.ended.is_set() for session in self.sessions)

    async def session(self, number: int = 1) -> "FakeSession":
        """Wait for the session of that number and return it."""
        async with self.began:
            await self.began.wait_for(lambda: len(self.sessions) >= number)
        return self.sessions[number - 1]

    async def Transcribe(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        session = FakeSession(await _config(request_iterator), self.word, self.words_per_s, self.language)
        async with self.began:
            self.sessions.append(session)
            self.began.notify_all()
        try:
            if self.refusal:
                raise self.refusal
            started = asr_pb2.TranscribeStarted(model="fake-en", warnings=_warnings(self.warnings))
            yield asr_pb2.TranscribeResponse(started=started)
            async for request in request_iterator:
                await self.taking.wait()
                if self.error:
                    raise self.error
                session.pcm += request.audio
                for response in session.hear(flush=request.HasField("flush")):
                    yield response
            await self.proceed.wait()
            for response in session.hear(flush=True):
                yield response
            yield asr_pb2.TranscribeResponse(
                finished=asr_pb2.TranscribeFinished(
                    samples=len(session.pcm) // 2,
                    duration_s=len(session.pcm) / SAMPLE_BYTES_PER_S,
                    language="en",
                    warnings=_warnings([*self.warnings, *self.last_warnings]),
                    voiced_s=self.voiced_s,
                )
            )
        finally:
            session.ended.set()


class FakeSession:
    """What one live session was told."""

    def __init__(self, config: asr_pb2.TranscribeConfig, word: str, words_per_s: int, language: str) -> None:
        self.config = config
        self.pcm = bytearray()
        self.flushes = 0
        self.ended = asyncio.Event()
        self._word = word
        self._words_per_s = words_per_s
        self._language = language
        self._heard_s = 0
        self._final_s = 0

    def hear(self, *, flush: bool) -> Iterator[asr_pb2.TranscribeResponse]:
        self.flushes += flush
        while self._words_per_s and self._heard_s < len(self.pcm) // SAMPLE_BYTES_PER_S:
            self._heard_s += 1
            yield asr_pb2.TranscribeResponse(
                partial=asr_pb2.Partial(text=written(self._words()), start_s=self._final_s)
            )
            if self._heard_s - self._final_s == 2:
                yield self._finalize()
        if flush and self._heard_s > self._final_s:
            yield self._finalize()

    def _words(self) -> list[str]:
        rate = self._words_per_s
        return [f"{self._word}{number}" for number in range(self._final_s * rate + 1, self._heard_s * rate + 1)]

    def _finalize(self) -> asr_pb2.TranscribeResponse:
        said = segment(self._final_s, *self._words(), word_s=1 / self._words_per_s, language=self._language)
        self._final_s = self._heard_s
        return asr_pb2.TranscribeResponse(segment=said)


class FakeDiarize(diarize_pb2_grpc.DiarizeServiceServicer):
    """Hears everything, waits for `proceed`, then says `turns` (start, end, speaker), or fails with `error`."""

    def __init__(self, turns: Sequence[tuple[float, float, int]] = ()) -> None:
        self.turns = list(turns)
        self.warnings: list[common_pb2.Warning] = []
        self.error: SttError | None = None
        self.proceed = asyncio.Event()
        self.proceed.set()
        self.refusals: list[SttError] = []
        self.ended = asyncio.Event()
        self.config = diarize_pb2.DiarizeConfig()

    async def Diarize(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        self.ended.clear()
        try:
            self.config = await _config(request_iterator)
            if self.refusals:
                raise self.refusals.pop()
            count_bytes = 0
            async for request in request_iterator:
                count_bytes += len(request.audio)
            yield diarize_pb2.DiarizeResponse(progress=common_pb2.Progress(processed_s=count_bytes / 32_000))
            await self.proceed.wait()
            if self.error:
                raise self.error
            for start_s, end_s, speaker in self.turns:
                yield diarize_pb2.DiarizeResponse(turn=diarize_pb2.Turn(start_s=start_s, end_s=end_s, speaker=speaker))
            yield diarize_pb2.DiarizeResponse(
                finished=diarize_pb2.DiarizeFinished(
                    samples=count_bytes // 2,
                    speakers=len({t[2] for t in self.turns}),
                    model="fake",
                    warnings=self.warnings,
                )
            )
        finally:
            self.ended.set()


class FakeLiveDiarize(diarize_pb2_grpc.DiarizeServiceServicer):
    """Says in each session what its test lets it say, and after the audio, when it may `proceed`, the closing message.

    Sessions are in `sessions`, in the order of their coming, and stay there when they are over.
    """

    def __init__(self) -> None:
        self.sessions: list[FakeDiarization] = []
        self.began = asyncio.Condition()
        self.refusal: SttError | None = None
        self.taking = asyncio.Event()
        self.taking.set()
        self.proceed = asyncio.Event()
        self.proceed.set()
        self.warnings: list[str] = []

    async def session(self, number: int = 1) -> "FakeDiarization":
        """Wait for the session of that number and return it."""
        async with self.began:
            await self.began.wait_for(lambda: len(self.sessions) >= number)
        return self.sessions[number - 1]

    async def Diarize(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        session = FakeDiarization(await _config(request_iterator))
        async with self.began:
            self.sessions.append(session)
            self.began.notify_all()
        hearing = asyncio.create_task(self._hear(request_iterator, session))
        try:
            if self.refusal:
                raise self.refusal
            while (response := await session.outbox.get()) is not None:
                if isinstance(response, SttError):
                    raise response
                yield response
            warnings = _warnings(self.warnings)
            yield diarize_pb2.DiarizeResponse(finished=diarize_pb2.DiarizeFinished(model="fake", warnings=warnings))
        finally:
            hearing.cancel()
            session.ended.set()

    async def _hear(self, requests: Any, session: "FakeDiarization") -> None:
        async for request in requests:
            await self.taking.wait()
            session.pcm += request.audio
            if request.HasField("flush"):
                session.flushed.set()
        await self.proceed.wait()
        session.outbox.put_nowait(None)


class FakeDiarization:
    """What one live session was told, and what it is to say."""

    def __init__(self, config: diarize_pb2.DiarizeConfig) -> None:
        self.config = config
        self.pcm = bytearray()
        self.flushed = asyncio.Event()
        self.ended = asyncio.Event()
        self.outbox: asyncio.Queue[diarize_pb2.DiarizeResponse | SttError | None] = asyncio.Queue()

    def say(self, since_s: float, until_s: float, *turns: tuple[float, float, int]) -> None:
        """Say who speaks: (start, end, speaker)."""
        told = [diarize_pb2.Turn(start_s=start_s, end_s=end_s, speaker=speaker) for start_s, end_s, speaker in turns]
        update = diarize_pb2.Update(since_s=since_s, until_s=until_s, turns=told)
        self.outbox.put_nowait(diarize_pb2.DiarizeResponse(update=update))

    def fail(self, error: SttError) -> None:
        self.outbox.put_nowait(error)


class FakeSummarize(summarize_pb2_grpc.SummarizeServiceServicer):
    """Repeats what it is asked, in two deltas, and breaks off after the first while there are `errors`."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.errors: list[SttError] = []

    async def Summarize(self, request: Any, context: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        yield summarize_pb2.SummarizeResponse(delta=f"{summarize_pb2.Style.Name(request.style)} ")
        if self.errors:
            raise self.errors.pop()
        yield summarize_pb2.SummarizeResponse(delta=request.text[:20])
        warnings = _warnings(self.warnings)
        yield summarize_pb2.SummarizeResponse(
            finished=summarize_pb2.SummarizeFinished(model="fake-summary", warnings=warnings)
        )


def _warnings(texts: Sequence[str]) -> list[common_pb2.Warning]:
    return [common_pb2.Warning(reason="X", message=text) for text in texts]


async def _config(requests: AsyncIterator[Any]) -> Any:
    async for request in requests:
        return request.config
    raise SttError(Reason.INVALID_REQUEST, "The client was gone before its config came.")


@asynccontextmanager
async def serving(servicer: Any) -> AsyncIterator[str]:
    """Serve one of the fakes; yields its address."""
    add, service = {
        FakeLiveAsr: (asr_pb2_grpc.add_AsrServiceServicer_to_server, "stt.asr.v1.AsrService"),
        FakeAsr: (asr_pb2_grpc.add_AsrServiceServicer_to_server, "stt.asr.v1.AsrService"),
        FakeDiarize: (diarize_pb2_grpc.add_DiarizeServiceServicer_to_server, "stt.diarize.v1.DiarizeService"),
        FakeLiveDiarize: (diarize_pb2_grpc.add_DiarizeServiceServicer_to_server, "stt.diarize.v1.DiarizeService"),
        FakeSummarize: (
            summarize_pb2_grpc.add_SummarizeServiceServicer_to_server, "stt.summarize.v1.SummarizeService",
        ),
    }[type(servicer)]  # fmt: skip
    server = GrpcServer(GrpcSettings(port=0, drain_s=0, grace_s=0), [service], lambda s: add(servicer, s))
    port = await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop()
