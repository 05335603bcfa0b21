"""What becomes of work whose replica goes away: another one does it, unless the caller has been told some of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from services.common.errors import Reason, SttError
from tests.edge.conftest import Edge, FakeServices, StartEdge, form_of
from tests.edge.fakes import FakeAsr, segment, serving

LOST = SttError(Reason.SHUTTING_DOWN, "The service is going away.", retry_after_s=3)


class Replica:
    """A recognition that says what it heard, and has finished when its test lets it."""

    def __init__(self) -> None:
        self.asr = FakeAsr([segment(0.0, "I", "am.")])
        self.asr.proceed.clear()
        self.server = AsyncExitStack()

    async def go_away(self) -> None:
        await self.server.aclose()


@pytest.fixture
async def replicas() -> AsyncIterator[list[Replica]]:
    """Two of them, served."""
    replicas = [Replica(), Replica()]
    yield replicas
    for replica in replicas:
        await replica.go_away()


@pytest.fixture
async def edge(replicas: list[Replica], fakes: FakeServices, start_edge: StartEdge) -> Edge:
    """An edge in front of both, with default settings."""
    addresses = [await replica.server.enter_async_context(serving(replica.asr)) for replica in replicas]
    return await start_edge(**fakes.addresses | {"asr_address": f"ipv4:{','.join(addresses)}"})


async def busy(replicas: list[Replica]) -> tuple[Replica, Replica]:
    """Return who has said what it heard, and the other, when one has."""
    saying = [asyncio.create_task(replica.asr.said.wait()) for replica in replicas]
    done, pending = await asyncio.wait(saying, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    assert len(done) == 1
    number = saying.index(done.pop())
    return replicas[number], replicas[1 - number]


async def test_what_recognition_does_not_finish_another_replica_does(
    edge: Edge, replicas: list[Replica], quiet: bytes
) -> None:
    request = asyncio.create_task(edge.transcribe(quiet))
    lost, other = await busy(replicas)
    other.asr.proceed.set()
    await lost.go_away()
    answer = await request
    assert (answer.status, answer.json["text"]) == (200, "I am.")


async def test_a_request_that_two_replicas_are_lost_over_is_a_503(
    edge: Edge, replicas: list[Replica], quiet: bytes
) -> None:
    request = asyncio.create_task(edge.transcribe(quiet))
    lost, other = await busy(replicas)
    await lost.go_away()
    await other.asr.said.wait()
    await other.go_away()
    answer = await request
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0


async def test_a_caller_who_was_told_words_is_not_told_others(
    edge: Edge, replicas: list[Replica], quiet: bytes
) -> None:
    events = {"Accept": "text/event-stream"}
    async with edge.http.post(edge.url + "/v1/transcribe", data=form_of(quiet), headers=events) as response:
        while await response.content.readline() != b"event: segment\n":
            pass
        lost, other = await busy(replicas)
        await lost.go_away()
        rest = await response.read()
    assert b"event: error" in rest
    assert b"event: segment" not in rest
    assert not other.asr.said.is_set()


async def test_a_caller_who_was_told_of_progress_is_told_of_it_anew(
    edge: Edge, replicas: list[Replica], quiet: bytes
) -> None:
    for replica in replicas:
        replica.asr.segments = []
    events = {"Accept": "text/event-stream"}
    async with edge.http.post(edge.url + "/v1/transcribe", data=form_of(quiet), headers=events) as response:
        lost, other = await busy(replicas)
        other.asr.proceed.set()
        await lost.go_away()
        told = await response.read()
    assert told.count(b'{"stage": "transcription", "processed": 0.0, "duration": 1.0}') == 2
    assert b"event: result" in told


async def test_an_upload_does_not_wait_for_a_list_of_models_that_was_known_before(
    start_edge: StartEdge, fakes: FakeServices, quiet: bytes
) -> None:
    free = asyncio.Event()
    edge = await start_edge(probe_deadline_s=600, **fakes.addresses)
    await edge.transcribe(quiet)

    async def list_models(request: Any, context: Any) -> Any:
        await free.wait()

    fakes.asr.ListModels = list_models  # type: ignore[method-assign]
    assert (await edge.transcribe(quiet)).status == 200
    free.set()


async def test_diarization_that_goes_away_is_asked_once_more(
    start_edge: StartEdge, fakes: FakeServices, quiet: bytes
) -> None:
    fakes.asr.segments = [segment(0.0, "I", "am.")]
    fakes.diarize.turns = [(0, 1, 1)]
    fakes.diarize.refusals = [LOST]
    answer = await (await start_edge(**fakes.addresses)).transcribe(quiet)
    assert (answer.json["speakers"], answer.json["warnings"]) == (["Speaker 1"], [])


async def test_a_summary_that_is_lost_is_asked_for_once_more(start_edge: StartEdge, fakes: FakeServices) -> None:
    fakes.summarize.errors = [LOST]
    edge = await start_edge(**fakes.addresses)
    answer = await edge.request("POST", "/v1/summarize", json={"text": "Long.", "style": "brief"})
    assert (answer.status, answer.json["summary"]) == (200, "STYLE_BRIEF Long.")
