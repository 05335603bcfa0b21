"""What every gRPC service counts of its requests, and where it can be read."""

import socket
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from stt.summarize.v1 import summarize_pb2, summarize_pb2_grpc

from services.common import metrics
from services.common.channels import open_channel
from services.common.errors import Reason, SttError
from services.common.places import Places
from services.common.server import GrpcServer
from services.common.settings import GrpcSettings


class Summaries(summarize_pb2_grpc.SummarizeServiceServicer):
    """Answers, or fails as it is asked to."""

    async def Summarize(self, request: summarize_pb2.SummarizeRequest, context: Any) -> AsyncIterator[Any]:
        yield summarize_pb2.SummarizeResponse(delta="x")
        if request.text == "bug":
            raise ZeroDivisionError
        if request.text:
            raise SttError(Reason[request.text], "No.")


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    server = GrpcServer(
        GrpcSettings(port=0, drain_s=0, grace_s=0),
        [],
        lambda s: summarize_pb2_grpc.add_SummarizeServiceServicer_to_server(Summaries(), s),
    )
    port = await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop()


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def ended(outcome: str) -> float:
    return value("stt_requests_total", method="Summarize", outcome=outcome)


def summarize(channel: grpc.aio.Channel, text: str) -> Any:
    stub: Any = summarize_pb2_grpc.SummarizeServiceStub(channel)
    return stub.Summarize(summarize_pb2.SummarizeRequest(text=text), timeout=10)


@pytest.mark.parametrize(("text", "outcome"), [("", "ok"), ("OVERLOADED", "OVERLOADED"), ("bug", "INTERNAL")])
async def test_a_request_counts_by_how_it_ended(channel: grpc.aio.Channel, text: str, outcome: str) -> None:
    before = ended(outcome), value("stt_request_duration_seconds_count", method="Summarize")
    try:
        async for _ in summarize(channel, text):
            pass
    except grpc.aio.AioRpcError:
        assert text
    after = ended(outcome), value("stt_request_duration_seconds_count", method="Summarize")
    assert after == (before[0] + 1, before[1] + 1)


async def test_a_method_that_does_not_exist_is_not_counted(channel: grpc.aio.Channel) -> None:
    call: Any = channel.unary_unary("/stt.summarize.v1.SummarizeService/Anything")
    with pytest.raises(grpc.aio.AioRpcError):
        await call(b"")
    assert "Anything" not in str([metric.samples for metric in REGISTRY.collect()])


async def test_places_show_how_many_are_taken_of_how_many() -> None:
    places = Places({"texts": 7}, "summarized", 1.0)
    assert value("stt_requests_limit", kind="text") == 7
    before = value("stt_requests_running", kind="text")
    async with places.taken("texts"):
        assert value("stt_requests_running", kind="text") == before + 1
    assert value("stt_requests_running", kind="text") == before


def test_prometheus_reads_them_on_a_port_of_their_own() -> None:
    port = metrics.serve("127.0.0.1", 0)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {"stt_build_info", "stt_requests", "process_resident_memory_bytes"} <= names


def test_a_taken_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"127.0.0.1:{port}.*METRICS_PORT"):
            metrics.serve("127.0.0.1", port)
