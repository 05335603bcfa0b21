"""A real recognition server for every test that wants one, and its callers' side."""

import asyncio
import threading
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
from services.asr.models.catalog import Model
from services.asr.models.loader import DeviceLoader
from services.asr.service import assembled, make_loader
from services.asr.settings import AsrSettings
from services.asr.vad import SileroModel, bundled_silero_path
from services.common.errors import SttError
from services.common.rpc_errors import from_error
from services.common.server import GrpcServer
from tests.models.whisper import save

Pcm = npt.NDArray[np.int16]

UNTRAINED_TEXT = "nothing but this"


def requests(pcm: bytes, portion_bytes: int = 65_536, **config: Any) -> Iterable[pb.TranscribeRequest]:
    """What a client sends for one recording."""
    yield pb.TranscribeRequest(config=pb.TranscribeConfig(**({"model": "moonshine-tiny-en"} | config)))
    for start in range(0, len(pcm), portion_bytes):
        yield pb.TranscribeRequest(audio=pcm[start : start + portion_bytes])


def live(portions: Iterable[bytes | None], **options: Any) -> Iterable[pb.TranscribeRequest]:
    """What a client sends in one live session; None is a flush."""
    known = {"model": "moonshine-tiny-en", "language": "en"}
    config = known | {name: options.pop(name) for name in ("model", "language", "start_offset_s") if name in options}
    options = {"interim_results": True} | options
    yield pb.TranscribeRequest(config=pb.TranscribeConfig(**config, live=pb.LiveConfig(**options)))
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

    async def models(self) -> dict[str, Any]:
        answer = await self.stub.ListModels(pb.ListModelsRequest(), timeout=10)
        return {model.id: model for model in answer.models}

    async def error(self, sent: Iterable[pb.TranscribeRequest]) -> tuple[grpc.StatusCode, SttError]:
        call = self.stub.Transcribe(sent, timeout=60)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            [event async for event in call]
        return caught.value.code(), from_error(caught.value, "asr")


Serve = Callable[..., AbstractAsyncContextManager[Server]]


@pytest.fixture(scope="session")
def engine() -> Moonshine:
    return Moonshine(bundled_model_dir(), confidence_floor=0.4)


class TestLoader:
    """Has the embedded model's engine already; loads true models of folders, and can be watched and held at it."""

    __test__ = False

    def __init__(self, embedded: Engine) -> None:
        self._embedded = embedded
        self.others: DeviceLoader
        self.loads: list[str] = []
        self.go = threading.Event()
        self.go.set()
        self.free = float("inf")
        self.loading = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.others, name)

    def free_mib(self) -> float:
        return self.free

    def load(self, model: Model) -> Engine:
        if model.is_embedded:
            return self._embedded
        self.loads.append(model.id)
        self._loop.call_soon_threadsafe(self.loading.set)
        self.go.wait(30)
        return self.others.load(model)


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Whisper, to be read only; in every speech it hears `UNTRAINED_TEXT`."""
    return save(tmp_path_factory.mktemp("models") / "untrained", UNTRAINED_TEXT)


@pytest.fixture(scope="session")
def silero() -> SileroModel:
    return SileroModel(bundled_silero_path())


@pytest.fixture
def serve(engine: Engine) -> Serve:
    """Start a server on a free port; settings may be named."""

    @asynccontextmanager
    async def start(
        engine: Engine = engine, loader: TestLoader | None = None, **overrides: Any
    ) -> AsyncIterator[Server]:
        embedded = {"models": ("moonshine-tiny-en",), "fallback_models": ("moonshine-tiny-en",)}
        settings = AsrSettings(**({"port": 0, "drain_s": 0.0, "grace_s": 0.0, "workers": 2} | embedded | overrides))
        watched = loader or TestLoader(engine)

        def make(*parts: Any) -> TestLoader:
            watched.others = make_loader(*parts)
            return watched

        async with assembled(settings, make) as service:
            server = GrpcServer(
                settings, [], lambda server: asr_pb2_grpc.add_AsrServiceServicer_to_server(service.servicer, server)
            )
            port = await server.start()
            try:
                async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                    yield Server(asr_pb2_grpc.AsrServiceStub(channel), service.aligner)
            finally:
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
