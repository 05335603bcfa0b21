"""What tests see of a service from outside: its health, what it counts, and what it says of a request."""

import asyncio
import urllib.request
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY

from services.common import tracing

LIMIT_S = 20


class Health:
    """Asks a server how its services are."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: Any = health_pb2_grpc.HealthStub(channel)

    async def check(self, service: str) -> str:
        answer = await self._stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=LIMIT_S)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    async def wait_for(self, service: str, status: str) -> None:
        """Watch a service until it is that."""
        wanted = health_pb2.HealthCheckResponse.ServingStatus.Value(status)
        async for answer in self._stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=LIMIT_S):
            if answer.status == wanted:
                return


def value(name: str, **labels: str) -> float:
    """Return what this process has counted."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


class Spans:
    """The spans that end while it patches the tracer of this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))

    def only(self) -> ReadableSpan:
        (span,) = self._exporter.get_finished_spans()
        return span


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def metrics(port: int) -> list[str]:
    """Return the lines that a program shows to Prometheus."""

    def read() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LIMIT_S) as answer:
            return str(answer.read().decode())

    return (await asyncio.to_thread(read)).splitlines()
