"""A real recognition server for every test that wants one, and its callers' side."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import av
import grpc
import numpy as np
import numpy.typing as npt
import pytest
from stt.asr.v1 import asr_pb2 as pb
from stt.asr.v1 import asr_pb2_grpc

from services.asr.aligner import Aligner
from services.asr.engine import Engine
from services.asr.engines.moonshine import Moonshine, bundled_model_dir
from services.asr.live import LiveTranscriber
from services.asr.models import Models
from services.asr.scheduler import Scheduler
from services.asr.servicer import AsrServicer
from services.asr.settings import AsrSettings
from services.asr.transcriber import Transcriber
from services.asr.vad import SileroModel, bundled_silero_path
from services.common.errors import SttError
from services.common.rpc_errors import from_error
from services.common.server import GrpcServer

Pcm = npt.NDArray[np.int16]


def requests(pcm: bytes, portion_bytes: int = 65_536, **config: Any) -> Iterable[pb.TranscribeRequest]:
    """What a client sends for one recording."""
    yield pb.TranscribeRequest(config=pb.TranscribeConfig(**({"model": "moonshine-tiny-en"} | config)))
    for start in range(0, len(pcm), portion_bytes):
        yield pb.TranscribeRequest(audio=pcm[start : start + portion_bytes])


def live(portions: Iterable[bytes | None], **options: Any) -> Iterable[pb.TranscribeRequest]:
    """What a client sends in one live session; None is a flush."""
    offset_s = options.pop("start_offset_s", 0.0)
    options = {"interim_results": True} | options
    yield pb.TranscribeRequest(
        config=pb.TranscribeConfig(
            model="moonshine-tiny-en", language="en", start_offset_s=offset_s, live=pb.LiveConfig(**options)
        )
    )
    for portion in portions:
        if portion is None:
            yield pb.TranscribeRequest(flush=pb.Flush())
        else:
            yield pb.TranscribeRequest(audio=portion)


def portioned(pcm: Pcm, portion_bytes: int = 3_200) -> list[bytes]:
    data = pcm.tobytes()
    return [data[start : start + portion_bytes] for start in range(0, len(data), portion_bytes)]


@dataclass
class Server:
    """A running server and a caller's view of it."""

    stub: Any
    aligner: Aligner

    async def events(self, pcm: Pcm | bytes, portion_bytes: int = 65_536, **config: str) -> list[Any]:
        data = pcm if isinstance(pcm, bytes) else pcm.tobytes()
        call = self.stub.Transcribe(requests(data, portion_bytes, **config), timeout=120)
        return [event async for event in call]

    async def segments(self, pcm: Pcm | bytes, portion_bytes: int = 65_536, **config: str) -> list[Any]:
        events = await self.events(pcm, portion_bytes, **config)
        return [event.segment for event in events if event.WhichOneof("event") == "segment"]

    async def live(self, portions: Pcm | Iterable[bytes | None], **options: Any) -> list[Any]:
        if isinstance(portions, np.ndarray):
            portions = portioned(portions)
        return [event async for event in self.stub.Transcribe(live(portions, **options), timeout=120)]

    async def error(self, sent: Iterable[pb.TranscribeRequest]) -> tuple[grpc.StatusCode, SttError]:
        call = self.stub.Transcribe(sent, timeout=60)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            [event async for event in call]
        return caught.value.code(), from_error(caught.value, "asr")


Serve = Callable[..., AbstractAsyncContextManager[Server]]


@pytest.fixture(scope="session")
def engine() -> Moonshine:
    return Moonshine(bundled_model_dir(), workers=2, confidence_floor=0.4)


@pytest.fixture(scope="session")
def silero() -> SileroModel:
    return SileroModel(bundled_silero_path())


@pytest.fixture
def serve(engine: Engine, silero: SileroModel) -> Serve:
    """Start a server on a free port; settings may be named."""

    @asynccontextmanager
    async def start(engine: Engine = engine, **overrides: Any) -> AsyncIterator[Server]:
        settings = AsrSettings(**({"port": 0, "drain_s": 0.0, "grace_s": 0.0} | overrides))
        async with (
            Aligner(settings.alignment_deadline_s) as aligner,
            Scheduler(engine, max_waiting=settings.max_waiting, file_wait_s=settings.file_wait_s) as scheduler,
        ):
            servicer = AsrServicer(
                Models([engine.id], settings.fallback_model),
                scheduler,
                Transcriber(scheduler, aligner, silero),
                LiveTranscriber(scheduler, aligner, silero, max_ahead_s=settings.max_ahead_s),
                settings,
            )
            server = GrpcServer(
                settings, [], lambda server: asr_pb2_grpc.add_AsrServiceServicer_to_server(servicer, server)
            )
            port = await server.start()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield Server(asr_pb2_grpc.AsrServiceStub(channel), aligner)
            await server.stop()

    return start


@pytest.fixture(scope="session")
def load(recordings: Path) -> Callable[[str], Pcm]:
    """Decode a recording of the wheel to 16 kHz mono."""

    @cache
    def decode(name: str) -> Pcm:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=16_000)
        with av.open(str(recordings / name)) as container:
            frames = [*container.decode(audio=0), None]
            return np.concatenate([part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)])

    return decode
