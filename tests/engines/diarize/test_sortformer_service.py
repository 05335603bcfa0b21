"""Sortformer behind the real server: random weights, so not who spoke is looked at, but what becomes of the answers."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from stt.diarize.v1 import diarize_pb2 as pb

from services.common.errors import Reason
from services.common.rpc_errors import from_error
from tests.diarize.conftest import Answer, Pcm, Server, requests
from tests.engines.diarize.conftest import MODEL, Watched
from tests.outside import value

Span = tuple[float, float, int]


def spans(turns: list[pb.Turn]) -> list[Span]:
    return [(round(turn.start_s, 3), round(turn.end_s, 3), turn.speaker) for turn in turns]


def warnings(answer: Answer) -> list[str]:
    return [warning.reason for warning in answer.finished.warnings]


async def test_a_recording_is_answered_by_the_sortformer(server: Server, voices: Pcm) -> None:
    answer = await server.diarize(voices)
    turns = answer.turns
    assert answer.finished.model == MODEL
    assert answer.progress_s == sorted(answer.progress_s)
    assert answer.progress_s[-1] == pytest.approx(len(voices) / 16_000)
    assert [turn.start_s for turn in turns] == sorted(turn.start_s for turn in turns)
    assert all(0 <= turn.start_s < turn.end_s <= answer.finished.duration_s for turn in turns)
    # Speakers are numbered as they come up.
    assert (
        list(dict.fromkeys(turn.speaker for turn in turns))
        == [1, 2, 3, 4]
        == list(range(1, answer.finished.speakers + 1))
    )


async def test_portions_of_any_size_make_no_difference(server: Server, voices: Pcm) -> None:
    whole = await server.diarize(voices)
    odd = await server.diarize(voices, portion_bytes=12_345)
    assert spans(odd.turns) == spans(whole.turns)


@pytest.mark.parametrize("speakers", [1, 2, 3, 4])
async def test_as_many_speakers_are_found_as_were_asked_for(server: Server, voices: Pcm, speakers: int) -> None:
    answer = await server.diarize(voices, speakers=speakers)
    assert answer.finished.speakers == len({turn.speaker for turn in answer.turns}) == speakers
    assert answer.finished.model == MODEL
    assert warnings(answer) == []


async def test_all_four_voices_in_use_may_be_more_and_the_answer_says_so(server: Server, voices: Pcm) -> None:
    assert warnings(await server.diarize(voices)) == ["MAYBE_MORE_SPEAKERS"]


async def test_more_speakers_than_it_can_tell_apart_are_the_embedded_engines(server: Server, voices: Pcm) -> None:
    answer = await server.diarize(voices[: 16_000 * 12], speakers=5)
    assert answer.finished.model == "pyannote-community-1"
    assert "MANY_SPEAKERS" in warnings(answer)


async def test_a_recording_without_audio_has_fewer_speakers_than_asked_for(server: Server) -> None:
    answer = await server.diarize(b"", speakers=2)
    assert answer.turns == []
    assert answer.finished.speakers == 0
    assert warnings(answer) == ["FEWER_SPEAKERS"]


@pytest.mark.parametrize("samples", [0, 1, 159, 160, 5_000])
async def test_the_shortest_recordings_are_answered(server: Server, voices: Pcm, samples: int) -> None:
    answer = await server.diarize(voices[:samples])
    assert answer.finished.samples == samples
    assert all(turn.end_s <= samples / 16_000 for turn in answer.turns)


async def test_recordings_at_the_same_time_share_batches(
    serve_sortformer: Callable[..., Any], watched: Watched, voices: Pcm
) -> None:
    async with serve_sortformer(max_requests=4, latency_s=10.0) as server:
        alone = await server.diarize(voices)
        watched.batches.clear()
        together = await asyncio.gather(*(server.diarize(voices) for _ in range(4)))
    assert max(watched.batches) > 1
    assert sum(watched.batches) == 4 * -(-len(voices) // (124 * 1_280))
    assert all(spans(each.turns) == spans(alone.turns) for each in together)


async def test_who_finds_no_memory_is_told_and_the_others_are_served(
    serve_sortformer: Callable[..., Any], watched: Watched, voices: Pcm
) -> None:
    loud = np.full(16_000 * 12, 20_000, np.int16)
    # Together it is too much, and for one of them alone as well.
    watched.fails = lambda chunks: len(chunks) > 1 or bool(chunks[0].samples.min() > 10_000)
    async with serve_sortformer(max_requests=4, latency_s=10.0) as server:
        quiet = [asyncio.create_task(server.diarize(voices[: 16_000 * 24])) for _ in range(3)]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.diarize(loud)
        answers = await asyncio.gather(*quiet)
        watched.fails = lambda chunks: False
        assert (await server.diarize(loud)).finished.model == MODEL
    error = from_error(caught.value, "diarize")
    assert (caught.value.code(), error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.OVERLOADED)
    assert "memory" in error.message
    assert error.retryable
    assert len({tuple(spans(answer.turns)) for answer in answers}) == 1
    assert max(watched.batches) > 1


async def test_when_the_device_fails_for_good_the_embedded_engine_answers_those_who_ask_again(
    server: Server, watched: Watched, voices: Pcm
) -> None:
    watched.error, watched.device_works = RuntimeError("CUDA error: device-side assert triggered"), False
    # In the middle of a recording.
    watched.fails = lambda chunks: len(watched.batches) > 1
    _, error = await server.error(requests(voices.tobytes()))
    assert error.reason is Reason.MODEL_UNAVAILABLE
    watched.fails = lambda chunks: False
    answer = await server.diarize(voices[: 16_000 * 12])
    assert answer.finished.model == "pyannote-community-1"
    assert warnings(answer) == ["FALLBACK_MODEL"]


async def test_what_the_network_computes_is_counted(server: Server, voices: Pcm) -> None:
    before = value("stt_engine_busy_seconds_total", model=MODEL)
    await server.diarize(voices)
    assert value("stt_engine_busy_seconds_total", model=MODEL) > before


async def test_three_hours_take_little_memory(server: Server, voices: Pcm) -> None:
    minute = np.resize(voices, 16_000 * 60).tobytes()

    async def sent(minutes: int) -> Any:
        config, *audio = requests(minute)
        yield config
        for _ in range(minutes):
            for message in audio:
                yield message

    async def listen(minutes: int) -> pb.DiarizeFinished:
        call = server.stub.Diarize(sent(minutes), timeout=300)
        return [event async for event in call][-1].finished

    process = psutil.Process()
    await listen(5)
    before = process.memory_info().rss
    assert (await listen(180)).duration_s == 180 * 60
    grown_mib = (process.memory_info().rss - before) / 2**20
    # Three hours are 330 MiB of samples, and their probabilities 1 MiB.
    assert grown_mib < 60
