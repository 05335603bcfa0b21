"""Connections that end of age while requests come: the ends that tell clients to look for new hosts."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from services.common.channels import open_channel

CALLS, AT_ONCE = 3_000, 50
METHOD = "/test.Echo/Echo"


class Echo(grpc.GenericRpcHandler):
    def service(self, details: grpc.HandlerCallDetails) -> Any:
        async def echo(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async for request in requests:
                yield request

        return grpc.stream_stream_rpc_method_handler(echo)


async def test_no_request_fails_because_it_meets_its_connections_end_of_age() -> None:
    # A fiftieth of a second instead of half a minute: without sending such requests again, some of them fail.
    server = grpc.aio.server(options=[("grpc.max_connection_age_ms", 20), ("grpc.max_connection_age_grace_ms", 60_000)])
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    calls = iter(range(CALLS))

    async def requests() -> AsyncIterator[bytes]:
        for _ in range(2):
            yield b"x" * 10_000

    async def call_again_and_again() -> None:
        for _ in calls:
            responses = [response async for response in echo(requests(), timeout=60)]
            assert responses == [b"x" * 10_000] * 2

    try:
        async with open_channel(f"127.0.0.1:{port}") as channel:
            echo = channel.stream_stream(METHOD)
            await asyncio.gather(*(call_again_and_again() for _ in range(AT_ONCE)))
    finally:
        await server.stop(0)
