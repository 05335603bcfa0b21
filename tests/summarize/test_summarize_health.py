"""What the summary service says of its health while its engine is loaded, and when that is lost for good."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
from stt.summarize.v1 import summarize_pb2_grpc

from services.common.errors import Reason
from services.summarize.__main__ import make_server
from services.summarize.engine import Delta, Engine, Event, Style, UnavailableError
from services.summarize.engines.extractive.engine import ExtractiveEngine
from services.summarize.keeper import KeptEngine
from services.summarize.settings import SummarizeSettings
from tests.outside import Health
from tests.summarize.client import Client

SERVICE = "stt.summarize.v1.SummarizeService"
SETTINGS = SummarizeSettings(port=0, drain_s=0, grace_s=0)


class Ready:
    """Says what it was given, until it is lost."""

    model = "ready"
    is_ready = is_alive = True

    async def summarize(self, text: str, style: Style) -> AsyncGenerator[Event, None]:
        yield Delta(text)


@dataclass
class House:
    """A caller of a running server, and who asks for its health."""

    client: Client
    health: Health


@asynccontextmanager
async def housed(engine: Engine) -> AsyncIterator[House]:
    server = make_server(engine, SETTINGS)
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield House(Client(summarize_pb2_grpc.SummarizeServiceStub(channel)), Health(channel))
    await server.stop()


@asynccontextmanager
async def kept(load: Callable[[], Awaitable[Engine]], *, works: bool = True) -> AsyncIterator[House]:
    made = KeptEngine("kept", load, retry_s=0.01, wait_s=0, works=lambda: works)
    async with made as engine, housed(engine) as house:
        yield house


async def test_it_is_alive_but_not_ready_until_the_model_is_loaded() -> None:
    may_load = asyncio.Event()

    async def load() -> Engine:
        await may_load.wait()
        return Ready()

    async with kept(load) as house:
        assert [await house.health.check(service) for service in ("", SERVICE)] == ["NOT_SERVING"] * 2
        assert await house.health.check("live") == "SERVING"
        may_load.set()
        await house.health.wait_for(SERVICE, "SERVING")
        assert await house.client.summary("Hello.") == "Hello."


async def test_the_extractive_engine_is_ready_at_once() -> None:
    with ThreadPoolExecutor(1) as executor:
        async with housed(ExtractiveEngine(executor)) as house:
            assert [await house.health.check(service) for service in ("", SERVICE, "live")] == ["SERVING"] * 3


async def test_a_model_that_cannot_be_had_now_is_no_reason_to_restart() -> None:
    tried_again = asyncio.Event()
    tries = 0

    async def load() -> Engine:
        nonlocal tries
        tries += 1
        if tries > 2:
            tried_again.set()
        raise UnavailableError("The hub is away.")

    async with kept(load) as house:
        await tried_again.wait()
        assert await house.health.check(SERVICE) == "NOT_SERVING"
        assert await house.health.check("live") == "SERVING"


async def test_a_device_found_broken_while_loading_is_not_alive_and_says_so_to_callers() -> None:
    async def load() -> Engine:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    async with kept(load, works=False) as house:
        await house.health.wait_for("live", "NOT_SERVING")
        code, error = await house.client.error("Hello.")
    assert (code, error.reason) == (grpc.StatusCode.UNAVAILABLE, Reason.MODEL_UNAVAILABLE)


async def test_an_engine_lost_for_good_is_neither_ready_nor_alive() -> None:
    engine = Ready()

    async def load() -> Engine:
        return engine

    async with kept(load) as house:
        await house.health.wait_for(SERVICE, "SERVING")
        engine.is_ready = engine.is_alive = False
        await house.health.wait_for(SERVICE, "NOT_SERVING")
        await house.health.wait_for("live", "NOT_SERVING")
