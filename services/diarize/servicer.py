"""Speaks gRPC for the engines: admits a recording or a session, feeds it, streams the answer; the rest is theirs."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, closing

import grpc
from opentelemetry import trace
from stt.diarize.v1 import diarize_pb2, diarize_pb2_grpc

from services.common.audio import SAMPLE_BYTES, SAMPLE_RATE, Flush
from services.common.errors import Reason, SttError
from services.common.metrics import REAL_TIME_FACTOR
from services.common.places import Places
from services.common.streams import AudioStream
from services.diarize.choice import Choice, Engines
from services.diarize.convert import read_config, write_finished, write_progress, write_turn, write_update
from services.diarize.settings import DiarizeSettings

_RETRY_AFTER_S = 5.0


class DiarizeServicer(diarize_pb2_grpc.DiarizeServiceServicer):
    """Diarizes so many recordings and so many live sessions at a time; more are refused, not queued."""

    def __init__(self, engines: Engines, settings: DiarizeSettings) -> None:
        self._engines = engines
        self._settings = settings
        room = {"recordings": settings.max_requests, "live sessions": settings.max_sessions}
        self._places = Places(room, "diarized", _RETRY_AFTER_S)

    async def Diarize(
        self,
        request_iterator: AsyncIterator[diarize_pb2.DiarizeRequest],
        context: "grpc.aio.ServicerContext[diarize_pb2.DiarizeRequest, diarize_pb2.DiarizeResponse]",
    ) -> AsyncIterator[diarize_pb2.DiarizeResponse]:
        """Stream progress while audio comes in, then the turns; live the turns at once; and the closing message."""
        stream = AudioStream(request_iterator, self._settings.idle_timeout_s)
        config = await stream.config()
        speakers, expected_duration_s = read_config(config)
        is_live = config.HasField("live")
        choice = self._engines.choose(speakers, is_live=is_live)
        trace.get_current_span().set_attribute("diarize.model", choice.engine.model_id)
        async with self._places.taken("live sessions" if is_live else "recordings"):
            responses = (
                self._listen(stream, choice, speakers)
                if is_live
                else self._diarize(stream, choice, speakers, expected_duration_s)
            )
            async with aclosing(responses):
                async for response in responses:
                    yield response

    async def _diarize(
        self, stream: AudioStream, choice: Choice, speakers: int, expected_duration_s: float
    ) -> AsyncGenerator[diarize_pb2.DiarizeResponse, None]:
        began = time.monotonic()
        samples, reported_s = 0, 0.0
        with closing(choice.engine.open(speakers, expected_duration_s)) as diarization:
            async for pcm in stream.audio():
                samples += self._count(pcm, samples)
                await diarization.feed(pcm)
                if diarization.processed_s > reported_s:
                    reported_s = diarization.processed_s
                    yield write_progress(reported_s)
            turns = await diarization.finish()
        if samples / SAMPLE_RATE > reported_s:
            yield write_progress(samples / SAMPLE_RATE)
        for turn in turns:
            yield write_turn(turn)
        if samples:
            REAL_TIME_FACTOR.observe((time.monotonic() - began) / (samples / SAMPLE_RATE))
        yield self._finished(samples, {turn.speaker for turn in turns}, speakers, choice)

    async def _listen(
        self, stream: AudioStream, choice: Choice, speakers: int
    ) -> AsyncGenerator[diarize_pb2.DiarizeResponse, None]:
        samples, found = 0, set[int]()

        async def heard() -> AsyncIterator[bytes | Flush]:
            nonlocal samples
            async for piece in stream.live_audio():
                if not isinstance(piece, Flush):
                    samples += self._count(piece, samples)
                yield piece

        async with aclosing(choice.engine.listen(heard(), speakers)) as updates:
            async for update in updates:
                found |= {turn.speaker for turn in update.turns}
                yield write_update(update)
        yield self._finished(samples, found, speakers, choice)

    def _finished(self, samples: int, found: set[int], asked: int, choice: Choice) -> diarize_pb2.DiarizeResponse:
        """Return the closing event, and note on the request's span what it was about."""
        attributes = {"diarize.audio_s": round(samples / SAMPLE_RATE, 3), "diarize.speakers": len(found)}
        trace.get_current_span().set_attributes(attributes)
        return write_finished(samples, found, asked, choice)

    def _count(self, pcm: bytes, before: int) -> int:
        """Return how many samples these are, which come after so many."""
        samples = len(pcm) // SAMPLE_BYTES
        if before + samples > self._settings.max_audio_s * SAMPLE_RATE:
            raise SttError(Reason.TOO_LARGE, f"A recording may have at most {self._settings.max_audio_s:g} seconds.")
        return samples
