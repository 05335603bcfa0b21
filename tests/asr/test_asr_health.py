"""When the service says that it can answer, and when that it must be started anew."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from stt.asr.v1 import asr_pb2_grpc

from services.asr.__main__ import server_of
from services.asr.engine import Engine
from services.asr.engines.moonshine import Moonshine
from services.asr.models.catalog import Model, catalog
from services.asr.service import assembled, make_loader
from services.asr.settings import AsrSettings
from services.common.rpc_errors import from_error
from services.common.server import GrpcServer
from tests.asr.conftest import TestLoader, requests
from tests.asr.test_asr_models import SPEECH, FallingLoader, cut_short
from tests.edge.conftest import program
from tests.hub import hub

SERVICE = "stt.asr.v1.AsrService"
LIMIT_S = 30
# The third attempt and the fifth are further apart than the server's looks at its health.
RETRY_S = 0.1
ATTEMPTS = 5


class House:
    """A service, and who asks for its health."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._health: Any = health_pb2_grpc.HealthStub(channel)
        self._asr: Any = asr_pb2_grpc.AsrServiceStub(channel)
        self.server: GrpcServer

    async def statuses(self, service: str) -> AsyncIterator[str]:
        """Yield what `service` is, and whatever it comes to be."""
        request = health_pb2.HealthCheckRequest(service=service)
        async for answer in self._health.Watch(request, timeout=LIMIT_S, wait_for_ready=True):
            yield health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

    async def comes_to_be(self, service: str, status: str) -> None:
        async for each in self.statuses(service):
            if each == status:
                return

    async def is_now(self, service: str) -> str:
        return await anext(self.statuses(service))

    async def transcribe(self, model: str) -> list[Any]:
        sent = requests(SPEECH.tobytes(), model=model, language="en")
        return [event async for event in self._asr.Transcribe(sent, timeout=60)]

    async def loses(self, model: str) -> None:
        """Ask for a model whose engine is lost by that."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.transcribe(model)
        assert "stopped working" in from_error(caught.value, "asr").message


@asynccontextmanager
async def served(loader: TestLoader, model_dir: Path, *models: str, **overrides: Any) -> AsyncIterator[House]:
    """Run the service as the program does, with these models from the start on and no fallback."""
    ours = {"port": 0, "drain_s": 0.0, "grace_s": 0.0, "load_retry_s": RETRY_S, "fallback_models": ()}
    settings = AsrSettings(**ours | {"model_dir": model_dir, "models": models} | overrides)

    def make(*parts: Any) -> TestLoader:
        loader.others = make_loader(*parts)
        return loader

    async with assembled(settings, make) as service:
        server = server_of(service, settings)
        port = await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            house = House(channel)
            house.server = server
            try:
                yield house
            finally:
                await server.stop()


@asynccontextmanager
async def watched(house: House, service: str) -> AsyncIterator[list[str]]:
    """Give a list of all that `service` comes to be meanwhile."""
    seen: list[str] = []
    began = asyncio.Event()

    async def watch() -> None:
        async for status in house.statuses(service):
            seen.append(status)
            began.set()

    watching = asyncio.create_task(watch())
    try:
        await began.wait()
        yield seen
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


@pytest.fixture
def model_dir(tmp_path: Path, untrained: Path) -> Path:
    for name in ("first", "second"):
        shutil.copytree(untrained, tmp_path / name)
    return tmp_path


class CountedLoader(FallingLoader):
    """Its first engine loses its GPU when it is used, and `attempts` gets one for each time that it is to load."""

    def __init__(self, embedded: Engine) -> None:
        super().__init__(embedded)
        self.attempts = asyncio.Semaphore(0)

    def need_mib(self, model: Model) -> float:
        self._loop.call_soon_threadsafe(self.attempts.release)
        return float(self.others.need_mib(model))

    async def attempted(self, times: int) -> None:
        async with asyncio.timeout(LIMIT_S):
            for _ in range(times):
                await self.attempts.acquire()


class HopelessLoader(CountedLoader):
    """Once it is `lost` it loads no other: for lack of the GPU, or of what that still holds."""

    def __init__(self, embedded: Engine, lack: str) -> None:
        super().__init__(embedded)
        self._lack = lack
        self.lost = False

    def free_mib(self) -> float:
        return 0.0 if self.lost and self._lack == "room" else super().free_mib()

    def load(self, model: Model) -> Engine:
        if self.lost and self._lack == "GPU":
            raise RuntimeError("CUDA failed with error no CUDA-capable device is detected")
        return super().load(model)


class HublessLoader(CountedLoader):
    """Has no files, and its hub is away."""

    def is_here(self, model: Model) -> bool:
        return False

    async def fetch(self, model: Model) -> None:
        self.attempts.release()
        raise OSError("the hub is away")


@pytest.fixture
def mirror_environment(tmp_path: Path, untrained: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    with hub({catalog(None)["small"].repository: untrained}) as mirror:
        yield mirror, mirror.environment(tmp_path)


async def test_the_program_is_alive_but_not_ready_until_a_model_it_must_fetch_is_there(
    mirror_environment: tuple[Any, dict[str, str]],
) -> None:
    mirror, environment = mirror_environment
    mirror.faults.on, mirror.faults.stall_after_bytes = "/storage/", 1_000_000
    environment |= {"ASR_MODELS": "small", "ASR_FALLBACK_MODELS": "", "HF_HUB_DOWNLOAD_TIMEOUT": "30"}
    with program("asr", **environment) as address:
        async with grpc.aio.insecure_channel(address) as channel:
            house = House(channel)
            await house.comes_to_be("live", "SERVING")
            await asyncio.to_thread(mirror.wait_until, lambda: bool(mirror.ranges()))
            assert [await house.is_now(service) for service in ("", SERVICE)] == ["NOT_SERVING"] * 2
            mirror.faults.release.set()
            await house.comes_to_be("", "SERVING")
            await house.comes_to_be(SERVICE, "SERVING")


async def test_one_model_that_is_there_makes_it_ready(engine: Moonshine, model_dir: Path) -> None:
    cut_short(model_dir / "first" / "model.bin")
    async with served(TestLoader(engine), model_dir, "first", "second") as house:
        assert await house.is_now("") == "SERVING"


async def test_it_is_not_ready_while_its_only_model_is_loaded_anew_and_alive_all_the_while(
    engine: Moonshine, model_dir: Path
) -> None:
    loader = FallingLoader(engine)
    async with served(loader, model_dir, "first") as house, watched(house, "live") as live:
        loader.go.clear()
        await house.loses("first")
        await house.comes_to_be("", "NOT_SERVING")
        loader.go.set()
        await house.comes_to_be("", "SERVING")
        assert (await house.transcribe("first"))[0].started.model == "first"
    assert live == ["SERVING"]


@pytest.mark.parametrize("lack", ["GPU", "room"])
async def test_a_lost_engine_that_cannot_be_loaded_again_is_a_reason_to_start_anew(
    engine: Moonshine, model_dir: Path, lack: str
) -> None:
    loader = HopelessLoader(engine, lack)
    async with served(loader, model_dir, "first", "moonshine-tiny-en") as house:
        assert await house.is_now("live") == "SERVING"
        loader.lost = True
        await house.loses("first")
        await house.comes_to_be("live", "NOT_SERVING")
        # Until it is started anew it answers what it can.
        assert await house.is_now("") == "SERVING"


async def test_a_lost_engine_whose_room_others_have_is_no_reason_to_start_anew(
    engine: Moonshine, model_dir: Path
) -> None:
    loader = HopelessLoader(engine, "room")
    async with served(loader, model_dir, "first", "second") as house, watched(house, "live") as live:
        loader.lost = True
        await house.loses("first")
        await loader.attempted(2 + 2 * ATTEMPTS)
        assert (await house.transcribe("second"))[0].started.model == "second"
    assert live == ["SERVING"]


@pytest.mark.parametrize("what", ["the hub is away", "the files are damaged"])
async def test_a_model_that_never_was_there_is_no_reason_to_start_anew(
    engine: Moonshine, model_dir: Path, what: str
) -> None:
    cut_short(model_dir / "first" / "model.bin")
    loader = HublessLoader(engine) if what == "the hub is away" else CountedLoader(engine)
    async with served(loader, model_dir, "first") as house, watched(house, "live") as live:
        await loader.attempted(ATTEMPTS)
        assert await house.is_now("") == "NOT_SERVING"
    assert live == ["SERVING"]


async def test_what_stops_is_not_ready_and_alive(engine: Moonshine, model_dir: Path) -> None:
    async with served(TestLoader(engine), model_dir, "first", drain_s=0.5) as house:
        stopping = asyncio.create_task(house.server.stop())
        await house.comes_to_be("", "NOT_SERVING")
        assert await house.is_now("live") == "SERVING"
        await stopping
