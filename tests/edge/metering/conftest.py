"""Accounts of the test store, and callers that have a key or none."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest

from services.edge.accounts.registry import Registry
from services.edge.accounts.signing import Signer
from services.edge.metering.store import Store, Subject, account
from tests.edge.conftest import Answer, Edge, FakeServices, StartEdge, form_of
from tests.edge.fakes import FakeAsr


@dataclass
class Account:
    """An account and a key that opens it."""

    subject: Subject
    key: str
    store: Store
    registry: Registry
    signer: Signer

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    async def show(self) -> dict[str, Any]:
        """Return how it stands."""
        return await self.store.run("show", self.subject)

    async def settled(self, **wanted: Any) -> dict[str, Any]:
        """Return how it stands once nothing runs any more and it is as wanted."""
        return await self.comes_to(running=0, **wanted)

    async def comes_to(self, **wanted: Any) -> dict[str, Any]:
        """Return how it stands once it is as wanted; the deadline is a failure."""
        deadline = time.monotonic() + 10
        while not (state := await self.show()).items() >= wanted.items():
            assert time.monotonic() < deadline, f"{wanted} expected, {state} found"
            await asyncio.sleep(0.01)
        return state

    async def another_key(self) -> "Account":
        """Return the same account with another key."""
        return replace(self, key=await self.registry.new_key(self.subject.name, self.signer))


OpenAccount = Callable[..., Awaitable[Account]]


@pytest.fixture
async def open_account(store: Store) -> OpenAccount:
    """Makes accounts of a tier, with credits."""
    registry, signer = Registry(store), Signer.in_memory()

    async def open_account(tier: str = "paid", credits: int = 0) -> Account:
        name = await registry.create(tier, credits)
        return Account(account(name), await registry.new_key(name, signer), store, registry, signer)

    return open_account


class Visitor:
    """A caller without a key, from an address of his own behind a proxy that is trusted."""

    def __init__(self, http: aiohttp.ClientSession, edge: Edge, address: str) -> None:
        self._http = http
        self._edge = edge
        self._headers = {"X-Forwarded-For": address}

    async def transcribe(self, content: bytes, headers: dict[str, str] | None = None) -> Answer:
        url = f"{self._edge.url}/v1/transcribe"
        sent = self._headers | (headers or {})
        async with self._http.post(url, data=form_of(content), headers=sent) as response:
            return Answer(response.status, response.headers, await response.read())


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that sends no key of its own accord."""
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def proxied(fakes: FakeServices, start_edge: StartEdge) -> Edge:
    """An edge behind one trusted proxy."""
    return await start_edge(trusted_proxy_hops=1, paid_concurrent=5, **fakes.addresses)


@pytest.fixture
async def visit(http: aiohttp.ClientSession, proxied: Edge) -> Callable[..., Visitor]:
    """Makes callers without a key: of an address, and at another edge than the usual one."""

    def visit(address: str = "192.0.2.1", edge: Edge = proxied) -> Visitor:
        return Visitor(http, edge, address)

    return visit


async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, Any]]:
    """Yield the server-sent events of an answer: name and content."""
    name = ""
    async for line in answer.content:
        kind, _, value = line.decode().rstrip("\n").partition(": ")
        if kind == "event":
            name = value
        elif kind == "data":
            yield name, json.loads(value)


async def running(asr: FakeAsr, request: Awaitable[Answer]) -> "asyncio.Task[Answer]":
    """Begin a request whose recognition waits for `asr.proceed`, and return when it has come that far."""
    asr.proceed.clear()
    asr.said.clear()
    task = asyncio.ensure_future(request)
    await asr.said.wait()
    return task
