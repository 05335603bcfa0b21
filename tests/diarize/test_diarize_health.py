"""What the diarization service says of its health, and who answers, when a GPU fails for good.

The Sortformer's network is made up, and what asks its device is given: no GPU can be broken on purpose.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest
import structlog
from stt.diarize.v1 import diarize_pb2 as pb
from stt.diarize.v1 import diarize_pb2_grpc

from services.common import engine_work
from services.common.errors import Reason
from services.common.interceptors import REQUEST_ID_KEY
from services.diarize.__main__ import make_server
from services.diarize.choice import Engines
from services.diarize.engine import Engine
from services.diarize.engines.community1 import Community1
from services.diarize.engines.networks import Networks
from services.diarize.engines.sortformer.batches import Batches
from services.diarize.engines.sortformer.chunks import Chunk, Heard
from services.diarize.engines.sortformer.engine import Sortformer
from services.diarize.engines.sortformer.presets import PRESETS
from services.diarize.loading import Loading
from services.diarize.settings import DiarizeSettings
from tests.diarize.conftest import Server, requests
from tests.outside import Health, value

MODEL = "diar_streaming_sortformer_4spk-v2"
SERVICE = "stt.diarize.v1.DiarizeService"
SETTINGS = DiarizeSettings(port=0, grace_s=0, drain_s=0)
RECORDING = bytes(2 * 16_000 * 12)
BROKEN = RuntimeError("CUDA error: device-side assert triggered")


class Network:
    """Hears nobody, or fails as it is told to."""

    error: Exception | None = None
    asked = 0

    def hear(self, chunks: Sequence[Chunk]) -> list[Heard]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return [Heard(np.zeros((chunk.frames, 4), np.float16), 0) for chunk in chunks]


@dataclass
class House:
    """A running server, and the parts of it that can fail."""

    server: Server
    health: Health
    network: Network
    on_lost: list[dict[str, Any]]
    device_works = True


@pytest.fixture
def thread() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@asynccontextmanager
async def housed(
    networks: Networks, executor: Executor, loading: Loading, network: Network, on_lost: list[dict[str, Any]]
) -> AsyncIterator[House]:
    engines = Engines(Community1(networks, executor, {0: 5.0}, ahead=2), loading, 4)
    server = make_server(engines, SETTINGS)
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield House(Server(diarize_pb2_grpc.DiarizeServiceStub(channel)), Health(channel), network, on_lost)
    await server.stop()


def never() -> Engine:
    raise AssertionError


@pytest.fixture
async def house(networks: Networks, executor: Executor, thread: Executor) -> AsyncIterator[House]:
    """A server whose Sortformer is loaded."""
    network, on_lost = Network(), list[dict[str, Any]]()
    loading = Loading(MODEL, asyncio.Event().wait, never, 1.0)  # type: ignore[arg-type]
    batches = Batches(
        network,
        thread,
        8,
        works=lambda: made.device_works,
        on_lost=lambda: on_lost.append(structlog.contextvars.get_contextvars()),
    )
    loading.engine = Sortformer(MODEL, 4, True, batches, PRESETS[10.0], PRESETS[1.04])
    async with housed(networks, executor, loading, network, on_lost) as made:
        yield made


def warnings(finished: pb.DiarizeFinished) -> list[str]:
    return [warning.reason for warning in finished.warnings]


async def lose(house: House) -> None:
    house.network.error, house.device_works = BROKEN, False
    await house.server.error(requests(RECORDING))


async def test_it_is_ready_while_the_sortformer_is_being_loaded(networks: Networks, executor: Executor) -> None:
    loading = Loading(MODEL, asyncio.Event().wait, never, 1.0)  # type: ignore[arg-type]
    async with housed(networks, executor, loading, Network(), []) as house:
        assert [await house.health.check(service) for service in ("", SERVICE, "live")] == ["SERVING"] * 3
        assert warnings((await house.server.diarize(RECORDING)).finished) == ["FALLBACK_MODEL"]


async def test_a_device_that_failed_for_good_is_not_alive_but_ready(house: House) -> None:
    await lose(house)
    await house.health.wait_for("live", "NOT_SERVING")
    assert await house.health.check(SERVICE) == "SERVING"


async def test_who_is_heard_when_it_fails_is_told_to_ask_again(house: House) -> None:
    house.network.error, house.device_works = BROKEN, False
    status, error = await house.server.error(requests(RECORDING))
    assert (status, error.reason) == (grpc.StatusCode.UNAVAILABLE, Reason.MODEL_UNAVAILABLE)
    assert error.retryable


async def test_all_who_wait_when_it_fails_are_told_and_nothing_more_is_asked_of_it(house: House) -> None:
    house.network.error, house.device_works = BROKEN, False
    errors = await asyncio.gather(*(house.server.error(requests(RECORDING)) for _ in range(4)))
    assert {error.reason for _, error in errors} == {Reason.MODEL_UNAVAILABLE}
    assert (len(house.on_lost), house.network.asked) == (1, 1)


async def test_a_live_session_is_told_too(house: House) -> None:
    config = pb.DiarizeRequest(config=pb.DiarizeConfig(live=pb.LiveConfig()))
    house.network.error, house.device_works = BROKEN, False
    _, error = await house.server.error([config, pb.DiarizeRequest(audio=bytes(64_000))])
    assert error.reason is Reason.MODEL_UNAVAILABLE


async def test_the_embedded_engine_answers_those_who_come_after_with_a_warning(house: House) -> None:
    await lose(house)
    finished = (await house.server.diarize(RECORDING)).finished
    assert finished.model == "pyannote-community-1"
    (warning,) = finished.warnings
    assert warning.reason == "FALLBACK_MODEL"
    assert warning.message == f"The device of {MODEL} failed for good. pyannote-community-1 answered."


async def test_what_fails_on_a_device_that_works_is_one_requests_misfortune(house: House) -> None:
    house.network.error = RuntimeError("a bug")
    _, error = await house.server.error(requests(RECORDING))
    assert error.reason is Reason.INTERNAL
    house.network.error = None
    assert (await house.server.diarize(RECORDING)).finished.model == MODEL
    assert await house.health.check("live") == "SERVING"


async def test_memory_that_ran_out_is_not_beyond_repair(house: House) -> None:
    house.network.error, house.device_works = MemoryError("CUDA out of memory"), False
    _, error = await house.server.error(requests(RECORDING))
    assert error.reason is Reason.OVERLOADED
    house.network.error = None
    assert (await house.server.diarize(RECORDING)).finished.model == MODEL
    assert await house.health.check("live") == "SERVING"


async def test_a_device_found_broken_while_loading_is_not_alive(networks: Networks, executor: Executor) -> None:
    async def fetch() -> None:
        return

    def load() -> Engine:
        raise BROKEN

    loading = Loading(MODEL, fetch, load, 0.0, works=lambda: False)
    async with housed(networks, executor, loading, Network(), []) as house:
        await asyncio.wait_for(loading.run(), 10)
        await house.health.wait_for("live", "NOT_SERVING")
        assert warnings((await house.server.diarize(RECORDING)).finished) == ["FALLBACK_MODEL"]


async def test_what_happens_to_the_device_is_no_part_of_the_request_that_met_it(house: House) -> None:
    house.network.error, house.device_works = BROKEN, False
    call = house.server.stub.Diarize(requests(RECORDING), timeout=60, metadata=((REQUEST_ID_KEY, "a-request"),))
    with pytest.raises(grpc.aio.AioRpcError):
        [event async for event in call]
    assert house.on_lost == [{}]


def test_a_lost_model_is_shown_as_not_loaded_and_without_workers() -> None:
    read = partial(value, "stt_model_loaded", model=MODEL, device="cuda")
    workers = partial(value, "stt_engine_workers", device="cuda")
    engine_work.wanted(MODEL, "cuda")
    assert read() == 0
    engine_work.loaded(MODEL, "cuda")
    assert (read(), workers()) == (1, 1)
    engine_work.lost(MODEL, "cuda")
    assert (read(), workers()) == (0, 0)
