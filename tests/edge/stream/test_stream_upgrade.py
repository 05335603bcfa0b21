"""What the answer to the upgrade says."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from stt.asr.v1 import asr_pb2

from services.common.errors import Reason, SttError
from services.edge.errors import CLOSE_CODES
from tests.edge.conftest import Answer, Edge, StartEdge
from tests.edge.fakes import FakeLiveAsr
from tests.edge.stream.conftest import Connect

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


async def ask(edge: Edge, query: str = "") -> Answer:
    return await edge.request("GET", f"/v1/stream{query}", headers=UPGRADE)


def test_every_reason_has_a_close_code() -> None:
    assert set(CLOSE_CODES) == set(Reason)
    assert set(CLOSE_CODES.values()) == {1001, 1008, 1009, 1011, 1013}


@pytest.mark.parametrize("query", ["?model=nonsense", "?language=klingon", "?model=fake-en&language=xx-YY"])
async def test_a_wrong_query_is_a_400_that_says_what_is_wrong(edge: Edge, query: str) -> None:
    answer = await ask(edge, query)
    assert answer.status == 400
    assert "nknown" in answer.json["error"]


@pytest.mark.parametrize("query", ["?task=sing", "?endpoint_silence_ms=3001", "?keywords=a%00b"])
async def test_a_wrong_query_is_a_400_even_while_recognition_is_down(query: str, start_edge: StartEdge) -> None:
    edge = await start_edge(asr_address="127.0.0.1:1")
    answer = await ask(edge, query)
    assert answer.status == 400
    assert query[1:].partition("=")[0] in answer.json["error"]


async def test_a_wrong_language_is_a_400_even_while_recognition_is_down(start_edge: StartEdge) -> None:
    edge = await start_edge(asr_address="127.0.0.1:1")
    assert (await ask(edge, "?language=klingon")).status == 400


async def test_without_recognition_it_is_a_503_that_says_when_to_try_again(start_edge: StartEdge) -> None:
    edge = await start_edge(asr_address="127.0.0.1:1")
    answer = await ask(edge)
    assert (answer.status, answer.json["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert int(answer.headers["Retry-After"]) > 0


async def test_a_plain_request_is_a_400_that_says_to_use_a_websocket(edge: Edge) -> None:
    answer = await edge.request("GET", "/v1/stream")
    assert answer.status == 400
    assert "WebSocket" in answer.json["error"]


@pytest.fixture
async def busy(asr: FakeLiveAsr) -> AsyncIterator[asyncio.Event]:
    """While it is clear, recognition does not get round to listing its models."""
    free = asyncio.Event()
    free.set()
    listed = asr.ListModels

    async def list_models(request: asr_pb2.ListModelsRequest, context: object) -> asr_pb2.ListModelsResponse:
        await free.wait()
        return await listed(request, context)

    asr.ListModels = list_models  # type: ignore[method-assign]
    yield free
    free.set()


async def test_a_busy_recognition_does_not_keep_the_upgrade_waiting(
    busy: asyncio.Event, connect: Connect, edge: Edge
) -> None:
    await edge.request("GET", "/v1/models")
    busy.clear()
    async with asyncio.timeout(0.3):
        await connect(model="fake-en")


async def test_while_the_models_are_not_known_yet_a_busy_recognition_is_a_503(
    busy: asyncio.Event, start_edge: StartEdge, asr_address: str
) -> None:
    edge = await start_edge(asr_address=asr_address, probe_deadline_s=0.2)
    busy.clear()
    assert (await ask(edge)).status == 503


async def test_where_recognition_has_no_room_the_upgrade_is_a_503(asr: FakeLiveAsr, edge: Edge) -> None:
    asr.full = SttError(Reason.OVERLOADED, "As many live sessions as it keeps up with.", retry_after_s=2)
    answer = await ask(edge, "?language=es")
    assert (answer.status, answer.json["error"]) == (503, asr.full.message)
    assert answer.headers["Retry-After"] == "2"
    assert asr.asked.language == "es"
    assert not asr.sessions


@pytest.mark.parametrize(("reason", "code"), [(Reason.UNSUPPORTED_LANGUAGE, 1008), (Reason.LANGUAGE_UNAVAILABLE, 1013)])
async def test_what_only_recognition_knows_to_be_wrong_is_an_error_after_the_upgrade(
    connect: Connect, asr: FakeLiveAsr, reason: Reason, code: int
) -> None:
    asr.refusal = SttError(reason, "Not in that language.")
    client = await connect()
    await client.say({"language": "de"})
    messages, closed_with = await client.hear_out()
    assert [m["error"] for m in messages] == ["Not in that language."]
    assert closed_with == code
