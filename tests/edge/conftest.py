"""An edge in front of fake services, and what tests send to it. After each test nothing of it may be left."""

import io
import json
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import av
import numpy as np
import psutil
import pytest
from aiohttp import web

from services.edge.app import build_runner
from services.edge.keys import SPOOL
from services.edge.settings import EdgeSettings
from tests.edge.fakes import FakeAsr, FakeDiarize, FakeSummarize, segment, serving


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


def form_of(content: bytes, filename: str = "x.wav", **fields: str) -> aiohttp.FormData:
    form = aiohttp.FormData()
    for name, value in fields.items():
        form.add_field(name, value)
    form.add_field("file", content, filename=filename, content_type="application/octet-stream")
    return form


@pytest.fixture(scope="session")
def quiet() -> bytes:
    """A WAV of one second without a sound: what fakes say about it is up to them."""
    target = io.BytesIO()
    with wave.open(target, "wb") as output:
        output.setnchannels(1)
        output.setsampwidth(2)
        output.setframerate(16_000)
        output.writeframes(bytes(32_000))
    return target.getvalue()


@pytest.fixture
async def start_edge(tmp_path: Path) -> AsyncIterator[StartEdge]:
    """Start edges with the settings given; at the end their spools are empty and no child is left."""
    spool_dir = tmp_path / "spool"
    runners: list[web.AppRunner] = []
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Edge:
            runner = build_runner(EdgeSettings(port=0, spool_dir=spool_dir, grace_s=1, **settings))
            runners.append(runner)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            port = runner.addresses[0][1]
            http = await stack.enter_async_context(aiohttp.ClientSession())
            return Edge(f"http://127.0.0.1:{port}", port, http)

        yield start
    for runner in runners:
        assert runner.app[SPOOL].used_bytes == 0
    assert list(spool_dir.iterdir()) == []
    assert [c for c in psutil.Process().children() if "services.edge.media.child" in c.cmdline()] == []


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
    """Two hours of silence, which FLAC makes small."""
    target = io.BytesIO()
    with av.open(target, "w", format="flac") as output:
        stream = output.add_stream("flac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000 * 60), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16_000
        resampler = av.AudioResampler("s16", "mono", 16_000, frame_size=65_535)
        for piece in (p for _ in range(120) for p in resampler.resample(frame)):
            output.mux(stream.encode(piece))
        for piece in resampler.resample(None):
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return target.getvalue()
