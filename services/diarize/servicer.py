"""Speaks gRPC for an engine: admits a recording, feeds it, streams the answer; finding speakers is the engine's."""

from collections.abc import AsyncIterator
from contextlib import closing

import grpc
from stt.diarize.v1 import diarize_pb2, diarize_pb2_grpc

from services.common.audio import SAMPLE_BYTES, SAMPLE_RATE
from services.common.errors import Reason, SttError
from services.common.streams import AudioStream
from services.diarize.convert import read_config, write_finished, write_progress, write_turn
from services.diarize.engine import Engine
from services.diarize.settings import DiarizeSettings

_RETRY_AFTER_S = 5.0


class DiarizeServicer(diarize_pb2_grpc.DiarizeServiceServicer):
    """Diarizes with one engine, at most `max_requests` recordings at a time; more are refused, not queued."""

    def __init__(self, engine: Engine, settings: DiarizeSettings) -> None:
        self._engine = engine
        self._settings = settings
        self._running = 0

    async def Diarize(
        self,
        request_iterator: AsyncIterator[diarize_pb2.DiarizeRequest],
        context: "grpc.aio.ServicerContext[diarize_pb2.DiarizeRequest, diarize_pb2.DiarizeResponse]",
    ) -> AsyncIterator[diarize_pb2.DiarizeResponse]:
        """Stream progress while audio comes in, then the turns and the closing message."""
        if self._running >= self._settings.max_requests:
            raise SttError(
                Reason.OVERLOADED,
                f"{self._running} recordings are being diarized, as many as the service takes.",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._running += 1
        try:
            async for response in self._diarize(AudioStream(request_iterator, self._settings.idle_timeout_s)):
                yield response
        finally:
            self._running -= 1

    async def _diarize(self, stream: AudioStream) -> AsyncIterator[diarize_pb2.DiarizeResponse]:
        speakers, expected_duration_s = read_config(await stream.config())
        samples, reported_s = 0, 0.0
        with closing(self._engine.open(speakers, expected_duration_s)) as diarization:
            async for pcm in stream.audio():
                samples += len(pcm) // SAMPLE_BYTES
                if samples > self._settings.max_audio_s * SAMPLE_RATE:
                    raise SttError(
                        Reason.TOO_LARGE, f"A recording may have at most {self._settings.max_audio_s:g} seconds."
                    )
                await diarization.feed(pcm)
                if diarization.processed_s > reported_s:
                    reported_s = diarization.processed_s
                    yield write_progress(reported_s)
            turns = await diarization.finish()
        if samples / SAMPLE_RATE > reported_s:
            yield write_progress(samples / SAMPLE_RATE)
        for turn in turns:
            yield write_turn(turn)
        yield write_finished(samples, len({turn.speaker for turn in turns}), speakers, self._engine.model_id)
