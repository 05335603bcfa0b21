"""Live sessions on the Sortformer: what is told chunk by chunk is in the end what a recording would be told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stt.diarize.v1 import diarize_pb2 as pb

from tests.diarize.conftest import Pcm, Server
from tests.engines.diarize.conftest import MODEL
from tests.engines.diarize.test_sortformer_service import Span, spans

CONFIG = pb.DiarizeConfig(live=pb.LiveConfig())


async def listen(server: Server, sent: AsyncIterator[pb.DiarizeRequest]) -> list[pb.DiarizeResponse]:
    return [event async for event in server.stub.Diarize(sent, timeout=60)]


def told(events: list[pb.DiarizeResponse]) -> list[Span]:
    """What stands at the end of all updates, pieces of a turn joined."""
    standing: list[Span] = []
    for event in events:
        if not event.HasField("update"):
            continue
        since_s = event.update.since_s
        kept = [(start, min(end, since_s), who) for start, end, who in standing if start < since_s]
        standing = kept + [(turn.start_s, turn.end_s, turn.speaker) for turn in event.update.turns]
    joined: dict[int, list[list[float]]] = {}
    for start, end, who in sorted(standing):
        pieces = joined.setdefault(who, [])
        if pieces and start - pieces[-1][1] < 1e-6:
            pieces[-1][1] = end
        else:
            pieces.append([start, end])
    found = [(round(start, 3), round(end, 3), who) for who, pieces in joined.items() for start, end in pieces]
    return sorted(found)


def by_speaker(found: list[Span]) -> set[frozenset[tuple[float, float]]]:
    """What each speaker says, whatever his number."""
    return {frozenset((start, end) for start, end, who in found if who == each) for each in {who for *_, who in found}}


@pytest.fixture
async def live(serve_sortformer: Callable[..., Any]) -> AsyncIterator[Server]:
    """A server that cuts recordings and sessions alike."""
    async with serve_sortformer(latency_s=1.04, live_latency_s=1.04) as running:
        yield running


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_a_session_is_told_what_a_recording_is(live: Server, voices: Pcm, data: st.DataObject) -> None:
    pcm = voices[: 16_000 * 6 + 321].tobytes()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(pcm)), max_size=8)))
    flushes = data.draw(st.sets(st.integers(0, len(cuts)), max_size=3))

    async def sent() -> AsyncIterator[pb.DiarizeRequest]:
        yield pb.DiarizeRequest(config=CONFIG)
        for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(pcm)], strict=True)):
            for at in range(start, end, 65_536):
                yield pb.DiarizeRequest(audio=pcm[at : min(at + 65_536, end)])
            if number in flushes:
                yield pb.DiarizeRequest(flush=pb.Flush())

    events = await listen(live, sent())
    updates = [event.update for event in events if event.HasField("update")]
    assert [update.since_s for update in updates] == sorted(update.since_s for update in updates)
    assert [update.until_s for update in updates] == sorted(update.until_s for update in updates)
    assert updates[-1].until_s == pytest.approx(len(pcm) / 32_000, abs=0.01)
    assert all(
        update.since_s <= turn.start_s < turn.end_s <= update.until_s for update in updates for turn in update.turns
    )
    recording = await live.diarize(pcm)
    if flushes:  # which may bring a voice up earlier, and so change who is number 1
        assert by_speaker(told(events)) == by_speaker(spans(recording.turns))
    else:
        assert told(events) == sorted(spans(recording.turns))
    assert events[-1].finished.model == MODEL


async def test_what_is_heard_is_told_while_the_session_goes_on(live: Server, voices: Pcm) -> None:
    is_told = asyncio.Event()

    async def sent() -> AsyncIterator[pb.DiarizeRequest]:
        yield pb.DiarizeRequest(config=CONFIG)
        yield pb.DiarizeRequest(audio=voices[: 16_000 * 2].tobytes())
        await is_told.wait()

    async with asyncio.timeout(30):
        async for event in live.stub.Diarize(sent()):
            if event.HasField("update"):
                is_told.set()
    assert is_told.is_set()


async def test_a_flush_tells_of_what_is_no_whole_chunk(live: Server, voices: Pcm) -> None:
    is_told = asyncio.Event()

    async def sent() -> AsyncIterator[pb.DiarizeRequest]:
        yield pb.DiarizeRequest(config=CONFIG)
        yield pb.DiarizeRequest(audio=voices[16_000 : 16_000 + 8_000].tobytes())
        yield pb.DiarizeRequest(flush=pb.Flush())
        await is_told.wait()

    async with asyncio.timeout(30):
        async for event in live.stub.Diarize(sent()):
            if event.HasField("update"):
                assert event.update.until_s == 0.5
                is_told.set()
    assert is_told.is_set()


@pytest.mark.parametrize("speakers", [1, 2, 3])
async def test_a_session_never_has_more_speakers_than_were_asked_for(live: Server, voices: Pcm, speakers: int) -> None:
    async def sent() -> AsyncIterator[pb.DiarizeRequest]:
        yield pb.DiarizeRequest(config=pb.DiarizeConfig(live=pb.LiveConfig(), speakers=speakers))
        yield pb.DiarizeRequest(audio=voices[: 16_000 * 2].tobytes())
        yield pb.DiarizeRequest(audio=voices[16_000 * 2 : 16_000 * 4].tobytes())

    events = await listen(live, sent())
    named = {turn.speaker for event in events for turn in event.update.turns}
    assert named == set(range(1, speakers + 1))
    assert events[-1].finished.speakers == speakers


async def test_an_empty_session_is_told_of_nobody(live: Server) -> None:
    async def sent() -> AsyncIterator[pb.DiarizeRequest]:
        yield pb.DiarizeRequest(config=CONFIG)
        yield pb.DiarizeRequest(flush=pb.Flush())

    told_of, finished = await listen(live, sent())
    assert not told_of.update.turns
    assert finished.finished.speakers == 0
