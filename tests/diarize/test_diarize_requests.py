"""What a client may send, and what it gets when it sends something else, through the wire."""

import asyncio
from collections.abc import Callable, Iterable

import grpc
import numpy as np
import pytest
from stt.diarize.v1 import diarize_pb2 as pb

from services.common.errors import Reason
from tests.diarize.conftest import Answer, Pcm, Serve, Server, requests

_CONFIG = pb.DiarizeRequest(config=pb.DiarizeConfig())
_AUDIO = pb.DiarizeRequest(audio=bytes(3_200))
INVALID = (grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_REQUEST)


async def _admitted(server: Server) -> Answer | None:
    """Return the answer to an empty recording, or None when there was no place for it."""
    try:
        return await server.diarize(b"")
    except grpc.aio.AioRpcError:
        return None


@pytest.mark.parametrize("speakers", [-1, 21, 99])
async def test_an_impossible_number_of_speakers_is_refused_with_what_is_allowed(server: Server, speakers: int) -> None:
    status, error = await server.error(requests(b"", speakers=speakers))
    assert (status, error.reason) == INVALID
    assert "1 to 20" in error.message
    assert str(speakers) in error.message


@pytest.mark.parametrize("duration_s", [-1.0, float("nan"), float("inf")])
async def test_an_impossible_duration_is_refused(server: Server, duration_s: float) -> None:
    status, error = await server.error(requests(b"", expected_duration_s=duration_s))
    assert (status, error.reason) == INVALID


@pytest.mark.parametrize(
    "sent",
    [
        [],
        [_AUDIO],
        [pb.DiarizeRequest()],
        [_CONFIG, _CONFIG],
        [_CONFIG, _AUDIO, _CONFIG],
        [_CONFIG, pb.DiarizeRequest()],
        [_CONFIG, pb.DiarizeRequest(audio=bytes(65_537))],
    ],
    ids=["nothing", "audio first", "empty first", "two configs", "a late config", "empty message", "too big"],
)
async def test_messages_out_of_order_or_too_big_are_refused(server: Server, sent: Iterable[pb.DiarizeRequest]) -> None:
    status, error = await server.error(sent)
    assert (status, error.reason) == INVALID


async def test_a_recording_longer_than_allowed_is_refused(serve: Serve) -> None:
    async with serve(max_audio_s=1.0) as server:
        status, error = await server.error(requests(bytes(32_002)))
        assert (status, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, Reason.TOO_LARGE)
        assert (await server.diarize(bytes(32_000))).finished.duration_s == 1.0


async def test_a_silent_client_is_let_go(serve: Serve) -> None:
    async with serve(idle_timeout_s=0.1) as server:
        call = server.stub.Diarize(timeout=30)
        await call.write(_CONFIG)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_one_recording_too_many_is_refused_and_may_come_again(serve: Serve) -> None:
    async with serve(max_requests=1) as server:
        call = server.stub.Diarize(timeout=30)
        await call.write(_CONFIG)
        async with asyncio.timeout(10):
            while await _admitted(server) is not None:  # the first request is not there yet
                pass
        status, error = await server.error(requests(b""))
        assert (status, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.OVERLOADED)
        assert error.retryable
        await call.done_writing()
        assert [event.WhichOneof("event") async for event in call] == ["finished"]
        assert (await server.diarize(b"")).finished.samples == 0


async def test_a_client_that_hangs_up_frees_its_place(serve: Serve, recording: Callable[[str], Pcm]) -> None:
    pcm = np.tile(recording("two_cities.wav"), 4).tobytes()
    async with serve(max_requests=1) as server:
        call = server.stub.Diarize(requests(pcm), timeout=60)
        first = await call.read()
        assert first.progress.processed_s < len(pcm) / 32_000
        call.cancel()
        async with asyncio.timeout(2):
            while (answer := await _admitted(server)) is None:
                pass
    assert answer.finished.samples == 0


async def test_two_recordings_at_once_do_not_mix(server: Server, recording: Callable[[str], Pcm]) -> None:
    dialogue, reading = recording("endgame_nagg_nell.wav"), recording("beckett.wav")
    both = await asyncio.gather(server.diarize(dialogue), server.diarize(reading))
    assert [answer.finished.speakers for answer in both] == [2, 1]
    assert [answer.finished.samples for answer in both] == [len(dialogue), len(reading)]
