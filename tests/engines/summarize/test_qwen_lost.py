"""What becomes of summaries when a GPU fails for good; what asks the device is given, since none can be broken."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs
from stt.summarize.v1 import summarize_pb2, summarize_pb2_grpc
from transformers.generation.continuous_batching import ContinuousBatchingManager

from services.common.errors import Reason, SttError
from services.common.interceptors import REQUEST_ID_KEY
from services.summarize.__main__ import make_server
from services.summarize.engines.qwen.batching import Batches
from services.summarize.engines.qwen.loading import Model
from services.summarize.settings import SummarizeSettings
from tests.engines.summarize.conftest import engine_of
from tests.outside import Health
from tests.summarize.client import Client

TEXT = "We talk about the launch of the app."
SERVICE = "stt.summarize.v1.SummarizeService"
SETTINGS = SummarizeSettings(port=0, drain_s=0, grace_s=0)


@dataclass
class Device:
    """What the model runs on: every step fails as `error` says, and asked about it, it works or not."""

    error: Exception
    works: bool
    managers: int = 0
    losses: list[None] = field(default_factory=list)


@pytest.fixture
def device(model: Model) -> Iterator[Device]:
    made = Device(RuntimeError("CUDA error: device-side assert triggered"), works=False)

    def fail(module: Any, args: Any) -> None:
        raise made.error

    hook = model.manager().model.register_forward_pre_hook(fail)
    yield made
    hook.remove()


@dataclass
class House:
    """A running server, its callers' side, and who asks for its health."""

    stub: Any
    health: Health

    async def error(self) -> tuple[grpc.StatusCode, SttError]:
        return await Client(self.stub).error(TEXT)


@asynccontextmanager
async def housed(model: Model, device: Device, readers: Executor) -> AsyncIterator[House]:
    def make() -> ContinuousBatchingManager:
        device.managers += 1
        return model.manager()

    batches = Batches(
        make,
        model.max_batch,
        model.sizes.pages,
        works=lambda: device.works,
        on_lost=lambda: device.losses.append(None),
    )
    server = make_server(engine_of(model, batches, readers), SETTINGS)
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield House(summarize_pb2_grpc.SummarizeServiceStub(channel), Health(channel))
    await server.stop()
    await batches.aclose()


@pytest.fixture
async def house(model: Model, device: Device, readers: Executor) -> AsyncIterator[House]:
    async with housed(model, device, readers) as made:
        yield made


async def test_all_who_wait_when_the_device_fails_for_good_are_told_that_the_model_is_unavailable(
    house: House, device: Device
) -> None:
    for code, error in await asyncio.gather(*(house.error() for _ in range(8))):
        assert (code, error.reason) == (grpc.StatusCode.UNAVAILABLE, Reason.MODEL_UNAVAILABLE)
        assert error.retryable
    assert len(device.losses) == 1


async def test_then_it_is_neither_ready_nor_alive_and_starts_nothing_more(house: House, device: Device) -> None:
    assert [await house.health.check(service) for service in (SERVICE, "live")] == ["SERVING"] * 2
    await house.error()
    await house.health.wait_for("live", "NOT_SERVING")
    await house.health.wait_for(SERVICE, "NOT_SERVING")
    _, error = await house.error()
    assert error.reason is Reason.MODEL_UNAVAILABLE
    assert device.managers == 1


async def test_a_failure_on_a_device_that_works_is_one_requests_misfortune(house: House, device: Device) -> None:
    device.works = True
    _, error = await house.error()
    assert error.reason is Reason.INTERNAL
    assert [await house.health.check(service) for service in (SERVICE, "live")] == ["SERVING"] * 2
    assert not device.losses


async def test_memory_that_ran_out_is_not_beyond_repair(house: House, device: Device) -> None:
    device.error = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    _, error = await house.error()
    assert error.reason is Reason.OVERLOADED
    assert await house.health.check("live") == "SERVING"


async def test_the_log_of_a_failed_step_names_the_requests_it_was_about(house: House) -> None:
    request = summarize_pb2.SummarizeRequest(text=TEXT)
    with capture_logs() as logs:
        call = house.stub.Summarize(request, timeout=60, metadata=((REQUEST_ID_KEY, "a-request"),))
        with pytest.raises(grpc.aio.AioRpcError):
            [event async for event in call]
    (ended,) = [log for log in logs if log["event"] == "generation ended"]
    assert ended["request_ids"] == ["a-request"]
