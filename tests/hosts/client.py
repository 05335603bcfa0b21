"""Clients of the house, on a host of their own: callers with an account each, live sessions, and a balancer."""

import asyncio
import io
import itertools
import json
import re
import time
import wave
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from services.edge.accounts.registry import Registry
from services.edge.accounts.signing import Signer
from services.edge.metering.store import Store, connect
from tests.hosts.house import EDGES, House

BYTES_PER_S = 32_000
_FRAME_S = 0.1
_SESSION_LIMIT_S = 120
LOOK_S = 0.1


@dataclass(frozen=True)
class Answer:
    """What came of a request; times are the event loop's, in seconds."""

    edge: str
    status: int
    retry_after: str | None
    body: dict[str, Any]
    began_s: float
    ended_s: float


@dataclass
class Caller:
    """Somebody with an account, or without a key."""

    account: str
    headers: dict[str, str]


@dataclass
class Clients:
    """All clients of a test."""

    house: House
    registry: Registry
    http: aiohttp.ClientSession
    _signer: Signer = field(default_factory=Signer.in_memory)

    async def caller(self, tier: str = "paid", credits: int = 1_000) -> Caller:
        account = await self.registry.create(tier, credits if tier == "paid" else 0)
        key = await self.registry.new_key(account, self._signer)
        return Caller(account, {"Authorization": f"Bearer {key}"})

    async def transcribe(self, edge: str, caller: Caller, recording: bytes, **fields: str) -> Answer:
        """Send a recording; an edge that does not take the connection is an OSError."""
        form = aiohttp.FormData({"diarize": "false", **fields})
        form.add_field("file", recording, filename="voice.wav")
        began_s = time.monotonic()
        url = f"{self.house.url(edge)}/v1/transcribe"
        async with self.http.post(url, data=form, headers=caller.headers) as response:
            body = await response.json()
            retry_after = response.headers.get("Retry-After")
            return Answer(edge, response.status, retry_after, body, began_s, time.monotonic())

    @asynccontextmanager
    async def session(self, edge: str, caller: Caller) -> AsyncIterator["Live"]:
        """Have a live session."""
        url = f"{self.house.url(edge)}/v1/stream"
        async with self.http.ws_connect(url, headers=caller.headers) as socket:
            await socket.send_json({"language": "en", "model": "moonshine-tiny-en"})
            live = Live(socket)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(live.hear())
                yield live

    async def settled(self, callers: list[Caller]) -> list[dict[str, Any]]:
        """Return how the accounts stand once none of them holds anything."""
        shown = []
        for caller in callers:

            async def has_settled(caller: Caller = caller) -> bool:
                state = await self.registry.show(caller.account)
                return not (state["held"] or state["running"])

            await become(has_settled, limit_s=40)
            shown.append(await self.registry.show(caller.account))
        return shown

    async def metric(self, host: str, name: str, **labels: str) -> float:
        """Return the sum of a host's samples of that name that have these labels."""
        async with self.http.get(self.house.metrics_url(host)) as response:
            lines = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", await response.text(), re.MULTILINE)
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        return sum(float(value) for found, value in lines if wanted <= set(found.split(",")))

    async def done(self, host: str, method: str = "Transcribe") -> float:
        """Return how many RPCs of a service's host have ended."""
        return await self.metric(host, "stt_requests_total", method=method)


class Live:
    """One live session's client: what it was told."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.messages: list[dict[str, Any]] = []
        self.told = asyncio.Event()
        """Set at each message, and at the end."""

    @property
    def segments(self) -> list[dict[str, Any]]:
        return [message for message in self.messages if message.get("type") == "transcript"]

    async def speak(self, pcm: bytes) -> None:
        """Say this at the pace of a microphone."""
        size = round(BYTES_PER_S * _FRAME_S)
        began_s = time.monotonic()
        for number, start in enumerate(range(0, len(pcm), size)):
            await asyncio.sleep(began_s + number * _FRAME_S - time.monotonic())
            await self.socket.send_bytes(pcm[start : start + size])

    async def stop(self) -> None:
        await self.socket.send_json({"action": "stop"})

    async def hear(self) -> None:
        async with asyncio.timeout(_SESSION_LIMIT_S):
            async for message in self.socket:
                self.messages.append(json.loads(message.data))
                self.told.set()
        self.told.set()

    async def until(self, is_so: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not is_so():
                assert not self.socket.closed, self.messages
                self.told.clear()
                await self.told.wait()


@asynccontextmanager
async def traffic(
    clients: Clients, callers: list[Caller], recording: bytes, choose: Callable[[], str]
) -> AsyncIterator[list[Answer]]:
    """Have callers send one recording after the other; `choose` names the edge for the next. Yields the answers."""
    answers: list[Answer] = []
    stopped = asyncio.Event()

    async def send(caller: Caller) -> None:
        while not stopped.is_set():
            answers.append(await clients.transcribe(choose(), caller, recording))
            with suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), LOOK_S)

    async with asyncio.TaskGroup() as tasks:
        for caller in callers:
            tasks.create_task(send(caller))
        yield answers
        stopped.set()


class Balancer:
    """Deals out requests in turn to the edges that say they are ready; looks ten times a second."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self.ready = list(EDGES)
        self._turns = itertools.count()

    def choose(self) -> str:
        return self.ready[next(self._turns) % len(self.ready)]

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """Look while the body runs."""
        task = asyncio.create_task(self._look())
        yield
        task.cancel()

    async def _look(self) -> None:
        while True:
            states = await asyncio.gather(*(self._is_ready(edge) for edge in EDGES))
            self.ready = [edge for edge, is_ready in zip(EDGES, states, strict=True) if is_ready]
            await asyncio.sleep(LOOK_S)

    async def _is_ready(self, edge: str) -> bool:
        try:
            async with self._clients.http.get(f"{self._clients.house.url(edge)}/ready") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False


async def become(is_so: Callable[[], Awaitable[object]], limit_s: float) -> float:
    """Return when that is so, and how many seconds it took; TimeoutError where it took longer."""
    began_s = time.monotonic()
    async with asyncio.timeout(limit_s):
        while True:
            if await is_so():
                return time.monotonic() - began_s
            await asyncio.sleep(LOOK_S)


def in_turn(names: tuple[str, ...]) -> Callable[[], str]:
    turns: Iterator[str] = itertools.cycle(names)
    return lambda: next(turns)


@asynccontextmanager
async def opened(house: House) -> AsyncIterator[Clients]:
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(connect(house.store_url, house.folder))
        # An answer that does not come is a failure of the test.
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)))
        yield Clients(house, Registry(Store(redis)), http)


def pcm_of(path: Path) -> bytes:
    """Return the audio of a recording that is as the live stream wants it: 16 kHz, mono, 16 bits."""
    with wave.open(str(path)) as recording:
        assert (recording.getframerate(), recording.getnchannels(), recording.getsampwidth()) == (16_000, 1, 2)
        return recording.readframes(recording.getnframes())


def wav_of(pcm: bytes) -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as output:
        output.setnchannels(1)
        output.setsampwidth(2)
        output.setframerate(16_000)
        output.writeframes(pcm)
    return target.getvalue()
