"""A gRPC server of the house, seen from a client."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from stt.summarize.v1 import summarize_pb2, summarize_pb2_grpc

from services.common.channels import open_channel
from services.common.errors import Reason, SttError
from services.common.rpc_errors import STATUS, from_error
from services.common.server import GrpcServer
from services.common.settings import GrpcSettings

SERVICE = summarize_pb2.DESCRIPTOR.services_by_name["SummarizeService"].full_name


class Failing(summarize_pb2_grpc.SummarizeServiceServicer):
    """Fails as the request's text says: a reason's name, "bug" or "wait"."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def Summarize(self, request: Any, context: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        yield summarize_pb2.SummarizeResponse(delta="x")
        if request.text == "bug":
            raise ZeroDivisionError("secret detail")
        if request.text == "wait":
            self.started.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        raise SttError(Reason[request.text], "Try less.", retry_after_s=1.5)


@pytest.fixture
def servicer() -> Failing:
    return Failing()


@pytest.fixture
async def channel(servicer: Failing) -> AsyncIterator[grpc.aio.Channel]:
    settings = GrpcSettings(port=0, drain_s=0, grace_s=0)
    server = GrpcServer(
        settings, [SERVICE], lambda s: summarize_pb2_grpc.add_SummarizeServiceServicer_to_server(servicer, s)
    )
    port = await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop()


def summarize(channel: grpc.aio.Channel, text: str) -> Any:
    return summarize_pb2_grpc.SummarizeServiceStub(channel).Summarize(  # type: ignore[call-overload]
        summarize_pb2.SummarizeRequest(text=text), timeout=10
    )


async def failure(call: Any) -> tuple[grpc.aio.AioRpcError, SttError]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    return caught.value, from_error(caught.value, "summary")


@pytest.mark.parametrize("reason", list(Reason))
async def test_every_reason_crosses_the_wire_with_its_status_and_retry_delay(
    channel: grpc.aio.Channel, reason: Reason
) -> None:
    raw, error = await failure(summarize(channel, reason.name))
    assert raw.code() is STATUS[reason]
    assert (error.reason, error.message, error.retry_after_s) == (reason, "Try less.", 1.5)


async def test_a_bug_is_internal_and_tells_the_caller_nothing(channel: grpc.aio.Channel) -> None:
    raw, error = await failure(summarize(channel, "bug"))
    assert error.reason is Reason.INTERNAL
    assert "secret" not in str(raw)


async def test_a_service_that_is_not_there_is_named_and_worth_a_retry() -> None:
    async with open_channel("127.0.0.1:1") as channel:
        _, error = await failure(summarize(channel, "x"))
    assert error.reason is Reason.SERVICE_UNAVAILABLE
    assert "summary" in error.message
    assert error.retryable


async def test_a_callers_hang_up_ends_the_handler(channel: grpc.aio.Channel, servicer: Failing) -> None:
    call = summarize(channel, "wait")
    await servicer.started.wait()
    call.cancel()
    async with asyncio.timeout(1):
        await servicer.cancelled.wait()


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_health_says_serving_for_the_server_and_its_service(channel: grpc.aio.Channel, service: str) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_the_service_and_describes_it(channel: grpc.aio.Channel, version: str) -> None:
    ask = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    listed, described = [answer async for answer in ask(iter(requests))]
    assert SERVICE in [service.name for service in listed.list_services_response.service]
    assert any(
        SERVICE.rpartition(".")[2].encode() in file for file in described.file_descriptor_response.file_descriptor_proto
    )


async def test_a_taken_port_is_one_sentence() -> None:
    settings = GrpcSettings(port=0, drain_s=0, grace_s=0)
    first = GrpcServer(settings, [], lambda s: None)
    port = await first.start()
    second = GrpcServer(GrpcSettings(port=port), [], lambda s: None)
    with pytest.raises(OSError, match=f"127.0.0.1:{port}.*taken"):
        await second.start()
    await first.stop()
