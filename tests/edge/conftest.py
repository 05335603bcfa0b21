"""An edge in front of fake services, and what tests send to it. After each test nothing of it may be left."""

import asyncio
import io
import json
import os
import socket
import subprocess
import sys
import wave
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import psutil
import pytest
from aiohttp import web
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.edge.accounts.registry import Registry
from services.edge.accounts.signing import Signer
from services.edge.app import build_runner
from services.edge.keys import SESSIONS, SPOOL
from services.edge.metering.store import Store, nodes
from services.edge.settings import EdgeSettings
from tests.edge.fakes import FakeAsr, FakeDiarize, FakeSummarize, segment, serving
from tests.edge.media.conftest import encode, make_wav, speech
from tests.store import store, store_dir

# Fixtures of the decoder's tests, and the store, that this folder shares.
__all__ = ["encode", "make_wav", "speech", "store", "store_dir"]

PLENTY = 1_000_000


@dataclass
class Answer:
    """What came back, read whole."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Edge:
    """A running edge, and a client of it."""

    url: str
    port: int
    http: aiohttp.ClientSession
    """Sends the key of a paid account."""
    key: str
    runner: web.AppRunner

    @property
    def bearer(self) -> dict[str, str]:
        """That key, for a client of one's own."""
        return bearer(self.key)

    @property
    def sessions(self) -> int:
        """How many live sessions it has."""
        return len(self.runner.app[SESSIONS])

    async def stop(self) -> None:
        """Do what SIGTERM does."""
        await self.runner.cleanup()

    async def request(self, method: str, path: str, **arguments: Any) -> Answer:
        async with self.http.request(method, self.url + path, **arguments) as response:
            return Answer(response.status, response.headers, await response.read())

    async def transcribe(
        self, content: bytes, headers: dict[str, str] | None = None, filename: str = "x.wav", **fields: str
    ) -> Answer:
        form = form_of(content, filename, **fields)
        return await self.request("POST", "/v1/transcribe", data=form, headers=headers)


@dataclass
class FakeServices:
    """The three services, each as its test wants it."""

    asr: FakeAsr = field(default_factory=lambda: FakeAsr([segment(0.0, "Hello,", "world.")]))
    diarize: FakeDiarize = field(default_factory=lambda: FakeDiarize([(0.0, 1.0, 1)]))
    summarize: FakeSummarize = field(default_factory=FakeSummarize)
    addresses: dict[str, str] = field(default_factory=dict)


StartEdge = Callable[..., Awaitable[Edge]]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def form_of(content: bytes, filename: str = "x.wav", **fields: str) -> aiohttp.FormData:
    form = aiohttp.FormData()
    for name, value in fields.items():
        form.add_field(name, value)
    form.add_field("file", content, filename=filename, content_type="application/octet-stream")
    return form


def silence(seconds: int) -> bytes:
    """A WAV of silence in as few bytes as that takes: 8 bits, 8 kHz."""
    target = io.BytesIO()
    with wave.open(target, "wb") as output:
        output.setnchannels(1)
        output.setsampwidth(1)
        output.setframerate(8_000)
        output.writeframes(b"\x80" * (seconds * 8_000))
    return target.getvalue()


@pytest.fixture(scope="session")
def quiet() -> bytes:
    """A second of silence: what fakes say about it is up to them."""
    return silence(1)


@pytest.fixture
async def key(store: Store) -> str:
    """A key of a paid account with plenty of credits."""
    registry = Registry(store)
    return await registry.new_key(await registry.create("paid", PLENTY), Signer.in_memory())


@pytest.fixture
async def start_edge(tmp_path: Path, store: Store, store_dir: Path, key: str) -> AsyncIterator[StartEdge]:
    """Start edges with the settings given; at the end nothing is held, their spools are empty and no child is left."""
    spool_dir = tmp_path / "spool"
    runners: list[web.AppRunner] = []
    common = {"port": 0, "spool_dir": spool_dir, "grace_s": 1, "redis_url": "", "data_dir": store_dir}
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Edge:
            runner = build_runner(EdgeSettings(**{**common, "paid_concurrent": 1_000, **settings}))
            runners.append(runner)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            port = runner.addresses[0][1]
            http = await stack.enter_async_context(aiohttp.ClientSession(headers=bearer(key)))
            return Edge(f"http://127.0.0.1:{port}", port, http, key, runner)

        yield start
    # A thread that reads the disk keeps its file until it is done.
    await asyncio.get_running_loop().shutdown_default_executor()
    await asyncio.sleep(0)
    for runner in runners:
        assert runner.app[SPOOL].used_bytes == 0
        assert runner.app[SESSIONS] == set()
    assert list(spool_dir.iterdir()) == []
    assert [c for c in psutil.Process().children() if "services.edge.media.child" in c.cmdline()] == []
    # Edges that have ended have settled before.
    for node in await nodes(store.redis):
        assert [*await node.keys("stt:*:leases"), *await node.keys("stt:*:jobs")] == []


@pytest.fixture
async def fakes() -> AsyncIterator[FakeServices]:
    """Three fake services, running."""
    services = FakeServices()
    async with AsyncExitStack() as stack:
        for name in ("asr", "diarize", "summarize"):
            address = await stack.enter_async_context(serving(getattr(services, name)))
            services.addresses[f"{name}_address"] = address
        yield services


@pytest.fixture
async def edge(fakes: FakeServices, start_edge: StartEdge) -> Edge:
    """An edge with default settings in front of the fakes."""
    return await start_edge(**fakes.addresses)


@pytest.fixture(scope="session")
def two_hours() -> bytes:
    """Two hours of silence."""
    return silence(7_200)


@pytest.fixture(scope="session")
def real_services() -> Iterator[dict[str, str]]:
    """The three services as they are deployed, with their embedded models; yields the edge's settings for them."""
    with ExitStack() as stack:
        addresses = {f"{name}_address": stack.enter_context(program(name)) for name in ("asr", "diarize", "summarize")}
        for address in addresses.values():
            with grpc.insecure_channel(address) as channel:
                request = health_pb2.HealthCheckRequest()
                health_pb2_grpc.HealthStub(channel).Check(request, wait_for_ready=True, timeout=60)
        yield addresses


@contextmanager
def program(name: str, **settings: str) -> Iterator[str]:
    """Run one of the programs with these variables; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    own = {f"{name.upper()}_PORT": str(port), f"{name.upper()}_GRACE_S": "1"}
    embedded = {"ASR_MODELS": "moonshine-tiny-en", "ASR_FALLBACK_MODELS": "moonshine-tiny-en"}
    environment = {**os.environ, **own, **embedded, **settings}
    with subprocess.Popen([sys.executable, "-m", f"services.{name}"], env=environment) as process:
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            assert process.wait(10) == 0


@pytest.fixture
async def real_edge(real_services: dict[str, str], start_edge: StartEdge) -> Edge:
    """An edge in front of the real services."""
    return await start_edge(**real_services)
