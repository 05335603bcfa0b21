"""Clients of /v1/stream, in front of a recognition that hears a word a second."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from tests.edge.conftest import Edge, StartEdge
from tests.edge.fakes import FakeLiveAsr, FakeLiveDiarize, serving

SECOND = b"\x01\x00" * 16_000
CONFIG: dict[str, Any] = {"language": "en", "model": "fake-en"}
STOP = {"action": "stop"}
Message = dict[str, Any]


class Client:
    """A client that keeps every message it is sent."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.messages: list[Message] = []
        self.sizes: list[int] = []

    async def say(self, *frames: bytes | str | dict[str, Any]) -> None:
        for frame in frames:
            match frame:
                case bytes():
                    await self.socket.send_bytes(frame)
                case str():
                    await self.socket.send_str(frame)
                case dict():
                    await self.socket.send_json(frame)

    async def hear(self) -> Message | None:
        """Return the next message, None at the close."""
        async with asyncio.timeout(10):
            message = await self.socket.receive()
        if message.type is not WSMsgType.TEXT:
            return None
        self.messages.append(json.loads(message.data))
        self.sizes.append(len(message.data.encode()))
        return self.messages[-1]

    async def hear_until(self, **wanted: Any) -> Message:
        """Return the first message from now on that has these fields."""
        while (message := await self.hear()) is not None:
            if message.items() >= wanted.items():
                return message
        raise AssertionError(f"closed with {self.socket.close_code} after {self.messages}")

    async def hear_out(self) -> tuple[list[Message], int | None]:
        """Return all messages and the code of the close."""
        while await self.hear() is not None:
            pass
        return self.messages, self.socket.close_code


Connect = Callable[..., Awaitable[Client]]


@pytest.fixture
async def asr() -> FakeLiveAsr:
    """The recognition behind the edge."""
    return FakeLiveAsr()


@pytest.fixture
async def asr_address(asr: FakeLiveAsr) -> AsyncIterator[str]:
    """Where it is."""
    async with serving(asr) as address:
        yield address


@pytest.fixture
async def diarize() -> FakeLiveDiarize:
    """The diarization behind an edge that is told of it."""
    return FakeLiveDiarize()


@pytest.fixture
async def diarize_address(diarize: FakeLiveDiarize) -> AsyncIterator[str]:
    """Where it is."""
    async with serving(diarize) as address:
        yield address


@pytest.fixture
async def edge(asr_address: str, start_edge: StartEdge) -> Edge:
    """An edge with default settings."""
    return await start_edge(asr_address=asr_address)


@pytest.fixture
async def connect(edge: Edge) -> AsyncIterator[Connect]:
    """Connects to that edge, or to another, with a query."""
    async with AsyncExitStack() as stack:

        async def open_client(at: Edge = edge, **query: str) -> Client:
            url = f"{at.url}/v1/stream"
            return Client(await stack.enter_async_context(at.http.ws_connect(url, params=query, max_msg_size=0)))

        yield open_client
