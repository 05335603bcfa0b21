"""Speaks gRPC for the transcribers: checks the config, admits the request, streams the events."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from itertools import count

import grpc
from opentelemetry import trace
from stt.asr.v1 import asr_pb2, asr_pb2_grpc

from services.asr import convert
from services.asr.device import Device
from services.asr.effort import summed_up
from services.asr.engine import SAMPLE_RATE
from services.asr.live import Event as LiveEvent
from services.asr.live import LiveTranscriber, Partial, SpeechEnded, SpeechStarted
from services.asr.models.keeper import Keeper, Use
from services.asr.settings import AsrSettings
from services.asr.transcriber import Finished, Progress, Transcriber
from services.asr.transcript import Segment
from services.common.metrics import REAL_TIME_FACTOR
from services.common.places import Places
from services.common.streams import AudioStream

_RETRY_AFTER_S = 2.0
_LIVE_LOAD_WAIT_S = 2.0

_Context = grpc.aio.ServicerContext[asr_pb2.TranscribeRequest, asr_pb2.TranscribeResponse]


class AsrServicer(asr_pb2_grpc.AsrServiceServicer):
    """Transcribes so many recordings and so many live sessions at once; more are refused, not queued."""

    def __init__(
        self,
        models: Keeper,
        device: Device,
        recordings: Transcriber,
        sessions: LiveTranscriber,
        settings: AsrSettings,
    ) -> None:
        self._models = models
        self._device = device
        self._recordings = recordings
        self._sessions = sessions
        self._load_wait_s = settings.load_wait_s
        self._idle_timeout_s = settings.idle_timeout_s
        room = {"recordings": settings.max_requests, "live sessions": settings.max_sessions}
        self._places = Places(room, "transcribed", _RETRY_AFTER_S)

    async def Transcribe(
        self, request_iterator: AsyncIterator[asr_pb2.TranscribeRequest], context: _Context
    ) -> AsyncIterator[asr_pb2.TranscribeResponse]:
        """Stream what is heard in one recording or one live session."""
        stream = AudioStream(request_iterator, self._idle_timeout_s)
        config = await stream.config()
        began = time.monotonic()
        span = trace.get_current_span()
        offset_s = convert.read_offset(config)
        listening = convert.read_listening(config.live) if config.HasField("live") else None
        # Who speaks now cannot wait for a model.
        wait_s = self._load_wait_s if listening is None else min(self._load_wait_s, _LIVE_LOAD_WAIT_S)
        async with summed_up(), self._places.taken(_kind(config)), self._engine(config, wait_s) as use:
            span.set_attribute("asr.model", use.choice.model)
            events: AsyncGenerator[Progress | LiveEvent, None]
            options = use.choice.options
            if listening is None:
                events = self._recordings.transcribe(stream.audio(), use.engine, use.scheduler, options)
            else:
                events = self._sessions.transcribe(stream.live_audio(), use.engine, use.scheduler, options, listening)
            yield convert.write_started(use.choice)
            async with aclosing(events):
                numbers = count(1)
                async for event in events:
                    match event:
                        case Progress():
                            yield convert.write_progress(event)
                        case SpeechStarted():
                            yield convert.write_speech_started(event, offset_s)
                        case Partial():
                            yield convert.write_partial(event, offset_s)
                        case SpeechEnded():
                            yield convert.write_speech_ended(event, offset_s)
                        case Segment():
                            yield convert.write_segment(event, next(numbers), offset_s)
                        case Finished():
                            audio_s = event.samples / SAMPLE_RATE
                            span.set_attribute("asr.audio_s", round(audio_s, 3))
                            if audio_s and listening is None:
                                REAL_TIME_FACTOR.observe((time.monotonic() - began) / audio_s)
                            yield convert.write_finished(event, use.choice)

    async def CheckRoom(self, request: asr_pb2.CheckRoomRequest, context: _Context) -> asr_pb2.CheckRoomResponse:
        """Answer where there is room for a request."""
        self._places.check(_kind(request.config))
        async with self._engine(request.config, 0.0):
            return asr_pb2.CheckRoomResponse()

    async def ListModels(self, request: asr_pb2.ListModelsRequest, context: _Context) -> asr_pb2.ListModelsResponse:
        """Return the catalog and the device."""
        models = self._models.models.values()
        return asr_pb2.ListModelsResponse(
            models=[convert.write_model(model, available=self._models.available(model.id)) for model in models],
            device=convert.write_device(self._device),
        )

    @asynccontextmanager
    async def _engine(self, config: asr_pb2.TranscribeConfig, wait_s: float) -> AsyncIterator[Use]:
        """Give what answers a request, which waits `wait_s` for its loading; SttError where it has no room for it."""
        is_live = config.HasField("live")
        async with self._models.use(config.model, convert.read_options(config), live=is_live, wait_s=wait_s) as use:
            use.scheduler.check_room()
            if is_live:
                use.scheduler.check_seat(use.engine)
            yield use


def _kind(config: asr_pb2.TranscribeConfig) -> str:
    return "live sessions" if config.HasField("live") else "recordings"
