"""The only module that speaks gRPC to the services: channels, deadlines, hang-ups and errors.

Leaving any method early, by cancellation or by not asking for more, cancels its RPC at once; who has the last event has
left it to its end, so that it does not count as cancelled on the other side.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from math import inf
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from stt.asr.v1 import asr_pb2, asr_pb2_grpc
from stt.diarize.v1 import diarize_pb2, diarize_pb2_grpc
from stt.summarize.v1 import summarize_pb2, summarize_pb2_grpc

from services.common import tracing
from services.common.audio import MAX_MESSAGE_BYTES, Flush
from services.common.channels import open_channel
from services.common.errors import Reason, SttError
from services.common.rpc_errors import from_error
from services.edge import convert
from services.edge.engine import (
    Catalog,
    Diarized,
    Partial,
    Progress,
    Recognized,
    Recording,
    Started,
    Style,
    Summary,
    Update,
)
from services.edge.metrics import BACKEND_CALLS
from services.edge.params import LiveParams, SpeechParams
from services.edge.repeating import repeated
from services.edge.settings import EdgeSettings
from services.edge.transcript import Segment

ASR, DIARIZE, SUMMARIZE = "recognition", "diarization", "summary"
"""The services' names in sentences for people."""
_PROGRAMS = {ASR: "asr", DIARIZE: "diarize", SUMMARIZE: "summarize"}


class Backends:
    """The three services; opened and closed as a context manager."""

    def __init__(self, settings: EdgeSettings) -> None:
        self._settings = settings
        self._catalog: Catalog | None = None
        self._listed_s = -inf
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open the channels; none of the services need be there yet."""

        async def channel(address: str) -> grpc.aio.Channel:
            return await self._exit.enter_async_context(open_channel(address))

        settings = self._settings
        self._asr: Any = asr_pb2_grpc.AsrServiceStub(await channel(settings.asr_address))
        self._diarize_stub: Any = diarize_pb2_grpc.DiarizeServiceStub(await channel(settings.diarize_address))
        self._summarize: Any = summarize_pb2_grpc.SummarizeServiceStub(await channel(settings.summarize_address))
        # Questions go over channels of their own, which share the connections: replicas take turns by the call, so with
        # a question before each recording one of two replicas would get all questions, the other all recordings.
        asr = await channel(settings.asr_address)
        diarize = await channel(settings.diarize_address)
        summarize = await channel(settings.summarize_address)
        self._models: Any = asr_pb2_grpc.AsrServiceStub(asr)
        self._health: dict[str, Any] = {
            ASR: (health_pb2_grpc.HealthStub(asr), asr_pb2.DESCRIPTOR.services_by_name["AsrService"]),
            DIARIZE: (
                health_pb2_grpc.HealthStub(diarize), diarize_pb2.DESCRIPTOR.services_by_name["DiarizeService"],
            ),
            SUMMARIZE: (
                health_pb2_grpc.HealthStub(summarize), summarize_pb2.DESCRIPTOR.services_by_name["SummarizeService"],
            ),
        }  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the channels, and so end every call on them."""
        await self._exit.aclose()

    async def transcribe(
        self, recording: Recording, duration_s: float, params: SpeechParams
    ) -> AsyncGenerator[Progress | Segment | Recognized, None]:
        """Yield what recognition does, segments in the order of time and one Recognized at the end."""

        async def requests() -> AsyncIterator[asr_pb2.TranscribeRequest]:
            yield asr_pb2.TranscribeRequest(config=convert.transcribe_config(params))
            async for chunk in recording.chunks(MAX_MESSAGE_BYTES):
                yield asr_pb2.TranscribeRequest(audio=chunk)

        deadline_s = self._settings.asr_deadline_base_s + self._settings.asr_deadline_factor * duration_s
        model_that_runs, finished = params.model, None
        async with _call(ASR, self._asr.Transcribe, requests(), deadline_s) as call:
            async for response in call:
                match response.WhichOneof("event"):
                    case "started":
                        model_that_runs = response.started.model
                        yield Progress("transcription", 0.0)
                    case "progress":
                        yield Progress("transcription", response.progress.processed_s)
                    case "segment":
                        yield convert.segment(response.segment)
                    case "finished":
                        finished = convert.recognized(model_that_runs, response.finished)
            if finished is None:
                raise _ended_early(ASR)
        yield finished

    async def listen(
        self, audio: AsyncIterator[bytes | Flush], params: LiveParams
    ) -> AsyncGenerator[Started | Partial | Segment | Recognized, None]:
        """Yield what a live session hears of `audio`, segments in the order of time and one Recognized at the end."""

        async def requests() -> AsyncIterator[asr_pb2.TranscribeRequest]:
            yield asr_pb2.TranscribeRequest(config=convert.transcribe_config(params))
            async for chunk in audio:
                if isinstance(chunk, Flush):
                    yield asr_pb2.TranscribeRequest(flush=asr_pb2.Flush())
                else:
                    yield asr_pb2.TranscribeRequest(audio=chunk)

        deadline_s = self._settings.stream_max_s + self._settings.stream_finish_s
        model_that_runs, finished = params.model, None
        async with _call(ASR, self._asr.Transcribe, requests(), deadline_s) as call:
            async for response in call:
                match response.WhichOneof("event"):
                    case "started":
                        model_that_runs = response.started.model
                        yield convert.started(response.started)
                    case "partial":
                        yield Partial(response.partial.text)
                    case "segment":
                        yield convert.segment(response.segment)
                    case "finished":
                        finished = convert.recognized(model_that_runs, response.finished)
            if finished is None:
                raise _ended_early(ASR)
        yield finished

    async def diarize(
        self, recording: Recording, duration_s: float, speakers: int
    ) -> AsyncGenerator[Progress | Diarized, None]:
        """Yield how far diarization is, and one Diarized at the end; `speakers` 0 finds their number out.

        A service that is full, and so has said nothing yet, is asked again until the deadline.
        """
        now = asyncio.get_running_loop().time
        factor, base_s = self._settings.diarize_deadline_factor, self._settings.diarize_deadline_base_s
        deadline = now() + base_s + factor * duration_s
        has_begun = False
        while True:
            try:
                async with aclosing(self._diarize_once(recording, duration_s, speakers, deadline - now())) as events:
                    async for event in events:
                        has_begun = True
                        yield event
                return
            except SttError as error:
                is_full = error.reason is Reason.OVERLOADED and not has_begun
                if not is_full or now() + (error.retry_after_s or 0) >= deadline:
                    raise
                retry_after_s = error.retry_after_s or 0
            await asyncio.sleep(retry_after_s)

    async def _diarize_once(
        self, recording: Recording, duration_s: float, speakers: int, timeout_s: float
    ) -> AsyncGenerator[Progress | Diarized, None]:
        async def requests() -> AsyncIterator[diarize_pb2.DiarizeRequest]:
            config = diarize_pb2.DiarizeConfig(speakers=speakers, expected_duration_s=duration_s)
            yield diarize_pb2.DiarizeRequest(config=config)
            async for chunk in recording.chunks(MAX_MESSAGE_BYTES):
                yield diarize_pb2.DiarizeRequest(audio=chunk)

        turns, finished = [], None
        async with _call(DIARIZE, self._diarize_stub.Diarize, requests(), timeout_s) as call:
            async for response in call:
                match response.WhichOneof("event"):
                    case "progress":
                        yield Progress("diarization", response.progress.processed_s)
                    case "turn":
                        turns.append(convert.turn(response.turn))
                    case "finished":
                        finished = convert.diarized(turns, response.finished)
            if finished is None:
                raise _ended_early(DIARIZE)
        yield finished

    async def diarize_live(
        self, audio: AsyncIterator[bytes | Flush], speakers: int
    ) -> AsyncGenerator[Update | Diarized, None]:
        """Yield who speaks in a live session of `audio`, and one Diarized at the end; `speakers` as in `diarize`."""

        async def requests() -> AsyncIterator[diarize_pb2.DiarizeRequest]:
            config = diarize_pb2.DiarizeConfig(speakers=speakers, live=diarize_pb2.LiveConfig())
            yield diarize_pb2.DiarizeRequest(config=config)
            async for chunk in audio:
                if isinstance(chunk, Flush):
                    yield diarize_pb2.DiarizeRequest(flush=diarize_pb2.Flush())
                else:
                    yield diarize_pb2.DiarizeRequest(audio=chunk)

        deadline_s = self._settings.stream_max_s + self._settings.stream_finish_s
        finished = None
        async with _call(DIARIZE, self._diarize_stub.Diarize, requests(), deadline_s) as call:
            async for response in call:
                match response.WhichOneof("event"):
                    case "update":
                        yield convert.update(response.update)
                    case "finished":
                        finished = convert.diarized((), response.finished)
            if finished is None:
                raise _ended_early(DIARIZE)
        yield finished

    async def summarize(self, text: str, style: Style) -> Summary:
        """Return the summary of `text`."""
        request = convert.summarize_request(text, style)
        settings = self._settings
        deadline_s = settings.summarize_deadline_base_s + settings.summarize_deadline_factor * len(text) / 1000
        deltas, finished = [], None
        async with _call(SUMMARIZE, self._summarize.Summarize, request, deadline_s) as call:
            async for response in call:
                match response.WhichOneof("event"):
                    case "delta":
                        deltas.append(response.delta)
                    case "finished":
                        finished = convert.summary("".join(deltas), response.finished)
            if finished is None:
                raise _ended_early(SUMMARIZE)
        return finished

    async def catalog(self) -> Catalog:
        """Return the models of recognition and what they run on."""
        return await self._list_models(self._settings.probe_deadline_s)

    async def catalog_soon(self, max_age_s: float = inf) -> Catalog:
        """Return the same within a fraction of a second: as it was last time where recognition is there, but busy.

        What was never known, or not for `max_age_s`, is waited for as in `catalog`.
        """
        now = asyncio.get_running_loop().time
        known = self._catalog if now() - self._listed_s <= max_age_s else None
        settings = self._settings
        try:
            return await self._list_models(settings.probe_deadline_s if known is None else settings.stream_probe_s)
        except SttError as error:
            if error.reason is not Reason.DEADLINE_EXCEEDED or known is None:
                raise
            return known

    async def check_room(self, params: LiveParams) -> None:
        """Raise SttError (OVERLOADED) where two replicas of recognition say that they do not take such a session now.

        Anything else the session hears from recognition itself.
        """
        request = asr_pb2.CheckRoomRequest(config=convert.transcribe_config(params))
        full: SttError | None = None
        for _ in range(2):
            try:
                async with _call(ASR, self._models.CheckRoom, request, self._settings.stream_probe_s) as call:
                    await call
                return
            except SttError as error:
                if error.reason is not Reason.OVERLOADED:
                    return
                full = error
        assert full is not None
        raise full

    async def _list_models(self, deadline_s: float) -> Catalog:
        async def ask() -> Catalog:
            request = asr_pb2.ListModelsRequest()
            async with _call(ASR, self._models.ListModels, request, deadline_s) as call:
                return convert.catalog(await call)

        # Before anybody has answered, as when all start together, nobody is lost.
        level = logging.DEBUG if self._catalog is None else logging.INFO
        self._catalog = await repeated(ask, level=level)
        self._listed_s = asyncio.get_running_loop().time()
        return self._catalog

    async def down(self) -> list[str]:
        """Return which of ASR, DIARIZE and SUMMARIZE do not serve now."""
        names = list(self._health)
        serving = await asyncio.gather(*(self._is_serving(name) for name in names))
        return [name for name, serves in zip(names, serving, strict=True) if not serves]

    async def _is_serving(self, name: str) -> bool:
        stub, service = self._health[name]
        request = health_pb2.HealthCheckRequest(service=service.full_name)
        try:
            response = await stub.Check(request, timeout=self._settings.probe_deadline_s)
        except grpc.aio.AioRpcError:
            return False
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


@asynccontextmanager
async def _call(service: str, method: Any, request: Any, timeout_s: float) -> AsyncIterator[Any]:
    """Call `method`, turn its error into an SttError, and cancel it where it is left early."""
    program = _PROGRAMS[service]
    outcome = "cancelled"
    with tracing.calling(f"call {program}", {"rpc.system": "grpc", "server.address": program}) as headers:
        call = method(request, timeout=timeout_s, metadata=tuple(headers.items()))
        ending = _Ending(call)
        try:
            yield call
            outcome = "ok"
        except grpc.aio.AioRpcError as error:
            known = from_error(ending.error or error, service)
            outcome = str(known.reason)
            raise known from error
        except SttError as error:
            outcome = str(error.reason)
            raise
        except Exception:
            outcome = str(Reason.INTERNAL)
            raise
        finally:
            call.cancel()
            BACKEND_CALLS.labels(program, outcome).inc()


class _Ending:
    """How an RPC ended: a write that fails because it ended replaces its status by a bare INTERNAL afterwards.

    See https://github.com/grpc/grpc/issues/36066; it happens to more than half of the calls that are refused while
    audio is being sent.
    """

    def __init__(self, call: Any) -> None:
        self.error: grpc.aio.AioRpcError | None = None
        call.add_done_callback(self._keep)

    def _keep(self, call: Any) -> None:
        if self.error is None:
            code, details, trailing = (_known(part()) for part in (call.code, call.details, call.trailing_metadata))
            self.error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)


def _known(part: Coroutine[Any, Any, Any]) -> Any:
    """Return what `part` awaits, which of an RPC that is done is there without waiting."""
    try:
        part.send(None)
    except StopIteration as done:
        return done.value
    part.close()
    raise AssertionError("the RPC is not done")


def _ended_early(service: str) -> SttError:
    return SttError(Reason.INTERNAL, f"The {service} service ended without an answer.")
