"""Speaks gRPC for the transcriber: checks the config, admits the request, streams the events."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc
from stt.asr.v1 import asr_pb2, asr_pb2_grpc

from services.asr.convert import write_finished, write_model, write_progress, write_segment, write_started
from services.asr.models import CATALOG, Models
from services.asr.transcriber import Finished, Progress, Transcriber
from services.asr.transcript import Segment
from services.common.errors import Reason, SttError
from services.common.streams import AudioStream

_RETRY_AFTER_S = 2.0

_Context = grpc.aio.ServicerContext[asr_pb2.TranscribeRequest, asr_pb2.TranscribeResponse]


class AsrServicer(asr_pb2_grpc.AsrServiceServicer):
    """Transcribes at most `max_requests` recordings at once; more are refused, not queued."""

    def __init__(self, models: Models, transcriber: Transcriber, *, max_requests: int, idle_timeout_s: float) -> None:
        self._models = models
        self._transcriber = transcriber
        self._max_requests = max_requests
        self._idle_timeout_s = idle_timeout_s
        self._running = 0

    async def Transcribe(
        self, request_iterator: AsyncIterator[asr_pb2.TranscribeRequest], context: _Context
    ) -> AsyncIterator[asr_pb2.TranscribeResponse]:
        """Stream what is heard in one recording."""
        stream = AudioStream(request_iterator, self._idle_timeout_s)
        config = await stream.config()
        choice = self._models.choose(config.model, config.language)
        self._admit()
        try:
            yield write_started(choice)
            async with aclosing(self._transcriber.transcribe(stream.audio(), choice.language)) as events:
                async for event in events:
                    match event:
                        case Progress():
                            yield write_progress(event)
                        case Segment():
                            yield write_segment(event)
                        case Finished():
                            yield write_finished(event, choice)
        finally:
            self._running -= 1

    async def ListModels(self, request: asr_pb2.ListModelsRequest, context: _Context) -> asr_pb2.ListModelsResponse:
        """Return the catalog and the device."""
        return asr_pb2.ListModelsResponse(
            models=[write_model(model, available=self._models.available(model.id)) for model in CATALOG],
            device=asr_pb2.Device(kind="cpu"),
        )

    def _admit(self) -> None:
        if self._running >= self._max_requests:
            raise SttError(
                Reason.OVERLOADED,
                f"{self._running} recordings are being transcribed, as many as the service takes.",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._running += 1
