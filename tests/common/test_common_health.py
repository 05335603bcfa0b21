"""What a gRPC service says of its health, and the program that asks for it."""

import asyncio
import sys
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.channels import open_channel
from services.common.server import GrpcServer
from services.common.settings import GrpcSettings

SERVICE = "stt.summarize.v1.SummarizeService"
LIMIT_S = 10


class Engine:
    """What a service's health is made of."""

    is_ready = True
    is_alive = True


class House:
    def __init__(self, server: GrpcServer, engine: Engine, port: int, channel: grpc.aio.Channel) -> None:
        self.server = server
        self.engine = engine
        self.address = f"127.0.0.1:{port}"
        self._stub = health_pb2_grpc.HealthStub(channel)

    async def wait_for(self, service: str, status: str) -> None:
        """Watch the health of a service until it is that."""
        wanted = health_pb2.HealthCheckResponse.ServingStatus.Value(status)
        request = health_pb2.HealthCheckRequest(service=service)
        async for answer in self._stub.Watch(request, timeout=LIMIT_S):  # type: ignore[attr-defined]
            if answer.status == wanted:
                return

    async def check(self, service: str) -> str:
        answer = await self._stub.Check(health_pb2.HealthCheckRequest(service=service))  # type: ignore[attr-defined]
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


@pytest.fixture
async def house() -> AsyncIterator[House]:
    engine = Engine()
    settings = GrpcSettings(port=0, drain_s=0.5, grace_s=0)
    server = GrpcServer(
        settings, [SERVICE], lambda s: None, is_ready=lambda: engine.is_ready, is_alive=lambda: engine.is_alive
    )
    port = await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        yield House(server, engine, port, channel)
    await server.stop()


async def probe(*arguments: str) -> tuple[int, str]:
    """Run what a container's health check runs; return its status and what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.common.probe", *arguments, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, errors.decode()


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_a_service_serves_while_it_is_ready(house: House, service: str) -> None:
    assert await house.check(service) == "SERVING"
    house.engine.is_ready = False
    await house.wait_for(service, "NOT_SERVING")
    house.engine.is_ready = True
    await house.wait_for(service, "SERVING")


async def test_a_service_that_is_not_ready_is_alive(house: House) -> None:
    house.engine.is_ready = False
    await house.wait_for("", "NOT_SERVING")
    assert await house.check("live") == "SERVING"


async def test_a_service_beyond_repair_is_not_alive(house: House) -> None:
    house.engine.is_alive = False
    await house.wait_for("live", "NOT_SERVING")


async def test_a_service_that_stops_is_not_ready_and_alive(house: House) -> None:
    stopping = asyncio.create_task(house.server.stop())
    await house.wait_for("", "NOT_SERVING")
    assert await house.check("live") == "SERVING"
    await stopping


async def test_the_probe_succeeds_while_the_service_serves(house: House) -> None:
    assert await probe(house.address, SERVICE) == (0, "")


async def test_the_probe_fails_and_says_so_while_it_does_not(house: House) -> None:
    house.engine.is_ready = False
    await house.wait_for("", "NOT_SERVING")
    assert await probe(house.address) == (1, f"{house.address} says NOT_SERVING\n")


async def test_the_probe_fails_where_nobody_is() -> None:
    assert await probe("127.0.0.1:1") == (1, "127.0.0.1:1 does not answer: UNAVAILABLE\n")
