"""A house that is killed again and again: edges and a store that die at any moment, and clients that go on asking."""

import asyncio
import os
import random
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import aiohttp
import psutil

from services.edge.accounts.registry import Registry
from services.edge.accounts.signing import Signer
from services.edge.metering.store import StoreDownError
from tests.edge.conftest import form_of, silence
from tests.edge.stream.conftest import CONFIG, SECOND, STOP

T = TypeVar("T")
LEASE_S = 3
CREDITS = 3
_START_S, _CLIENT_S = 30, 20
_TRIES = 20
_PAUSE_S = 0.05
_SHORT, _LONG = silence(1), silence(61)


class Edge:
    """An edge process on a port of its own, which is started again whenever it is killed."""

    def __init__(self, settings: dict[str, str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = {**os.environ, **settings, "EDGE_PORT": str(self.port), "LOG_LEVEL": "ERROR"}

    async def start(self) -> None:
        """Start it and return when it listens."""
        command = [sys.executable, "-m", "services.edge"]
        self._process = await asyncio.create_subprocess_exec(*command, env=self._environment)
        async with asyncio.timeout(_START_S):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                await asyncio.sleep(_PAUSE_S)

    async def kill(self) -> None:
        """Kill it, and start it again."""
        self._process.kill()
        await self._process.wait()
        await self.start()

    async def stop(self) -> None:
        """End it for good."""
        self._process.terminate()
        await self._process.wait()


@dataclass
class Job:
    """What a client asked for with an account of its own, and whether he got it."""

    kind: str
    account: str
    tier: str
    headers: dict[str, str]
    content: bytes
    cost: int
    is_answered: bool = False
    """He has what he is charged for: the whole answer, the first segment, or his audio was taken."""


class Client:
    """Asks for one thing after the other, each with a new account, at whichever edge."""

    def __init__(self, edges: list[Edge], registry: Registry, chance: random.Random) -> None:
        self._edges = edges
        self._registry = registry
        self._chance = chance
        self._signer = Signer.in_memory()
        self.jobs: list[Job] = []

    async def work(self, enough: asyncio.Event) -> None:
        """Ask until it is enough."""
        ways = {
            "json": self._ask,
            "keyed": self._ask_until_answered,
            "events": self._follow,
            "live": self._speak,
            "summary": self._summarize,
        }
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_CLIENT_S)) as self._http:
            while not enough.is_set():
                kind = self._chance.choice(list(ways))
                job = await self._new_job(kind)
                self.jobs.append(job)
                await ways[kind](job)

    async def _new_job(self, kind: str) -> Job:
        tier = self._chance.choice(["paid", "paid", "free"])
        name = await patiently(lambda: self._registry.create(tier, CREDITS))
        key = await patiently(lambda: self._registry.new_key(name, self._signer))
        headers = {"Authorization": f"Bearer {key}"}
        if kind == "keyed":
            headers["Idempotency-Key"] = "once"
        elif kind == "events":
            headers["Accept"] = "text/event-stream"
        is_long = self._chance.random() < 0.3 and kind != "live"
        cost = 0 if kind == "summary" else 2 if is_long else 1
        return Job(kind, name, tier, headers, _LONG if is_long else _SHORT, cost)

    async def _ask(self, job: Job) -> None:
        url = f"{self._chance.choice(self._edges).url}/v1/transcribe"
        try:
            async with self._http.post(url, data=form_of(job.content, diarize="false"), headers=job.headers) as answer:
                await answer.read()
                job.is_answered = answer.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            await asyncio.sleep(_PAUSE_S)

    async def _ask_until_answered(self, job: Job) -> None:
        for _ in range(_TRIES):
            if not job.is_answered:
                await self._ask(job)
                await asyncio.sleep(_PAUSE_S)

    async def _follow(self, job: Job) -> None:
        url = f"{self._chance.choice(self._edges).url}/v1/transcribe"
        try:
            async with self._http.post(url, data=form_of(job.content, diarize="false"), headers=job.headers) as answer:
                async for line in answer.content:
                    job.is_answered = job.is_answered or line.startswith(b"event: segment")
        except (aiohttp.ClientError, TimeoutError, OSError):
            await asyncio.sleep(_PAUSE_S)

    async def _summarize(self, job: Job) -> None:
        url = f"{self._chance.choice(self._edges).url}/v1/summarize"
        try:
            async with self._http.post(url, json={"text": "Hello."}, headers=job.headers) as answer:
                await answer.read()
                job.is_answered = answer.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            await asyncio.sleep(_PAUSE_S)

    async def _speak(self, job: Job) -> None:
        url = f"{self._chance.choice(self._edges).url}/v1/stream"
        try:
            async with self._http.ws_connect(url, headers=job.headers) as stream:
                await stream.send_json(CONFIG)
                await stream.send_bytes(SECOND)
                job.is_answered = True
                await stream.send_json(STOP)
                async for _ in stream:
                    pass
        except (aiohttp.ClientError, TimeoutError, OSError):
            await asyncio.sleep(_PAUSE_S)


async def patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Return what `work` gives once the store is there; it may have been done before its reply was lost."""
    while True:
        try:
            return await work()
        except StoreDownError:
            await asyncio.sleep(_PAUSE_S)


class Killer:
    """Kills what is up, one after the other, at moments that chance chooses."""

    def __init__(self, edges: list[Edge], keeper_pid: int, chance: random.Random) -> None:
        self._edges = edges
        self._keeper = psutil.Process(keeper_pid)
        self._chance = chance
        self.kills: Counter[str] = Counter()

    async def kill(self, count: int, victims: list[str]) -> None:
        """Kill that often, and return when everything is up again."""
        starting: dict[Edge, asyncio.Task[None]] = {}
        while count:
            await asyncio.sleep(self._chance.uniform(0.05, 0.8))
            victim = self._chance.choice(victims)
            if victim == "store":
                self._kill_store()
            else:
                edge = self._chance.choice(self._edges)
                if edge in starting and not starting[edge].done():
                    continue
                starting[edge] = asyncio.create_task(edge.kill())
            self.kills[victim] += 1
            count -= 1
        await asyncio.gather(*starting.values())

    def _kill_store(self) -> None:
        for server in self._keeper.children():
            server.kill()
