"""A client of the summary service, and a real server for it to call."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from stt.summarize.v1 import summarize_pb2 as pb
from stt.summarize.v1 import summarize_pb2_grpc

from services.common.errors import SttError
from services.common.rpc_errors import from_error
from services.common.server import GrpcServer
from services.summarize.engine import Engine
from services.summarize.servicer import SummarizeServicer
from services.summarize.settings import SummarizeSettings


class Client:
    """What a caller sees."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    def call(self, text: str, style: int = 0) -> Any:
        return self._stub.Summarize(pb.SummarizeRequest(text=text, style=style), timeout=60)

    async def events(self, text: str, style: int = 0) -> list[Any]:
        return [event async for event in self.call(text, style)]

    async def summary(self, text: str, style: int = 0) -> str:
        return "".join(event.delta for event in await self.events(text, style))

    async def warnings(self, text: str, style: int = 0) -> list[str]:
        return [warning.reason for warning in (await self.events(text, style))[-1].finished.warnings]

    async def error(self, text: str, style: int = 0) -> tuple[grpc.StatusCode, SttError]:
        call = self.call(text, style)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            [event async for event in call]
        return caught.value.code(), from_error(caught.value, "summary")


@asynccontextmanager
async def serving(engine: Engine, max_requests: int) -> AsyncIterator[Client]:
    servicer = SummarizeServicer(engine, max_requests)
    server = GrpcServer(
        SummarizeSettings(port=0, drain_s=0, grace_s=0),
        ["stt.summarize.v1.SummarizeService"],
        lambda server: summarize_pb2_grpc.add_SummarizeServiceServicer_to_server(servicer, server),
    )
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Client(summarize_pb2_grpc.SummarizeServiceStub(channel))
    await server.stop()
