"""A real diarization server for every test that wants one, and its callers' side."""

import wave
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import resample_poly
from stt.diarize.v1 import diarize_pb2 as pb
from stt.diarize.v1 import diarize_pb2_grpc

from services.common.errors import SttError
from services.common.rpc_errors import from_error
from services.common.server import GrpcServer
from services.diarize.choice import Engines
from services.diarize.engines.community1 import Community1
from services.diarize.engines.libmoonshine import read_community1
from services.diarize.engines.networks import Networks
from services.diarize.servicer import DiarizeServicer
from services.diarize.settings import DiarizeSettings

Pcm = npt.NDArray[np.int16]


def requests(pcm: bytes, portion_bytes: int = 65_536, **config: float) -> Iterable[pb.DiarizeRequest]:
    """What a client sends for one recording."""
    yield pb.DiarizeRequest(config=pb.DiarizeConfig(**config))
    for start in range(0, len(pcm), portion_bytes):
        yield pb.DiarizeRequest(audio=pcm[start : start + portion_bytes])


@dataclass
class Answer:
    """All events of one request."""

    progress_s: list[float]
    turns: list[pb.Turn]
    finished: pb.DiarizeFinished

    def speaker_at(self, time_s: float) -> list[int]:
        return [turn.speaker for turn in self.turns if turn.start_s <= time_s < turn.end_s]


@dataclass
class Server:
    """A running server and a caller's view of it."""

    stub: Any

    async def diarize(self, pcm: Pcm | bytes, portion_bytes: int = 65_536, **config: float) -> Answer:
        data = pcm if isinstance(pcm, bytes) else pcm.tobytes()
        call = self.stub.Diarize(requests(data, portion_bytes, **config), timeout=60)
        events = [event async for event in call]
        kinds = [event.WhichOneof("event") for event in events]
        assert kinds == sorted(kinds, key=["progress", "turn", "finished"].index)
        assert kinds.count("finished") == 1
        return Answer(
            [event.progress.processed_s for event in events if event.HasField("progress")],
            [event.turn for event in events if event.HasField("turn")],
            events[-1].finished,
        )

    async def error(self, sent: Iterable[pb.DiarizeRequest]) -> tuple[grpc.StatusCode, SttError]:
        """Return how a request ends; only its last message may be bad (https://github.com/grpc/grpc/issues/36066)."""
        call = self.stub.Diarize(sent, timeout=60)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            [event async for event in call]
        return caught.value.code(), from_error(caught.value, "diarize")


Serve = Callable[..., AbstractAsyncContextManager[Server]]


@pytest.fixture(scope="session")
def networks() -> Networks:
    return Networks(read_community1())


@pytest.fixture
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@asynccontextmanager
async def serving(engines: Engines, settings: DiarizeSettings) -> AsyncIterator[Server]:
    """Run a server with these engines."""
    servicer = DiarizeServicer(engines, settings)
    server = GrpcServer(settings, [], lambda s: diarize_pb2_grpc.add_DiarizeServiceServicer_to_server(servicer, s))
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Server(diarize_pb2_grpc.DiarizeServiceStub(channel))
    await server.stop()


@pytest.fixture
def serve(networks: Networks, executor: Executor) -> Serve:
    """Start a server with the real engine; arguments are settings."""

    @asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[Server]:
        settings = DiarizeSettings(**({"port": 0, "grace_s": 0.0, "drain_s": 0.0} | changes))
        engine = Community1(networks, executor, settings.steps_s, settings.ahead)
        async with serving(Engines(engine), settings) as server:
            yield server

    return start


@pytest.fixture
async def server(serve: Serve) -> AsyncIterator[Server]:
    async with serve() as running:
        yield running


@pytest.fixture(scope="session")
def recording(recordings: Path) -> Callable[[str], Pcm]:
    """Read a recording of the wheel as 16 kHz samples."""

    def read(name: str) -> Pcm:
        with wave.open(str(recordings / name)) as file:
            assert (file.getsampwidth(), file.getnchannels()) == (2, 1)
            samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float64)
            resampled = resample_poly(samples, 16_000, file.getframerate())
        return np.clip(np.rint(resampled), -32768, 32767).astype(np.int16)

    return read
