"""Live sessions through the wire: who speaks is told while it is going on, corrected for a while, and then stays."""

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from itertools import pairwise
from threading import Event
from typing import Any, cast

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from stt.diarize.v1 import diarize_pb2 as pb

from services.common.audio import Flush
from services.diarize.engines import community1_live
from services.diarize.engines.community1 import Community1
from services.diarize.engines.community1_live import HORIZON_S, LiveSession
from services.diarize.engines.networks import FEATURE_CHANNELS, Networks
from services.diarize.voices import WINDOW_FRAMES, WINDOW_VOICES
from tests.diarize.conftest import Pcm, Serve, Server

Read = Callable[[str], Pcm]
_FLUSH = pb.DiarizeRequest(flush=pb.Flush())


def _config(speakers: int = 0) -> pb.DiarizeRequest:
    return pb.DiarizeRequest(config=pb.DiarizeConfig(speakers=speakers, live=pb.LiveConfig()))


def _audio(pcm: Pcm, portion_bytes: int = 6_400) -> Iterable[pb.DiarizeRequest]:
    data = pcm.tobytes()
    return [pb.DiarizeRequest(audio=data[i : i + portion_bytes]) for i in range(0, len(data), portion_bytes)]


async def _session(
    server: Server, sent: Iterable[pb.DiarizeRequest], speakers: int = 0
) -> tuple[list[pb.Update], pb.DiarizeFinished]:
    """Return all updates of a session, and how it closed."""
    call = server.stub.Diarize([_config(speakers), *sent], timeout=60)
    *events, last = [event async for event in call]
    assert {event.WhichOneof("event") for event in events} <= {"update"}
    assert last.WhichOneof("event") == "finished"
    return [event.update for event in events], last.finished


async def _until(call: Any, time_s: float) -> pb.Update:
    """Read on to the first update on everything up to `time_s`."""
    while (update := (await call.read()).update).until_s < time_s:
        pass
    return cast(pb.Update, update)


async def _rest(call: Any) -> list[pb.DiarizeResponse]:
    events = []
    while (event := await call.read()) is not grpc.aio.EOF:
        events.append(event)
    return events


async def _admitted(server: Server) -> bool:
    try:
        await _session(server, [])
    except grpc.aio.AioRpcError as error:
        return error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED
    return True


def _known(updates: list[pb.Update]) -> list[pb.Turn]:
    """Return what is known after all corrections of a session that is shorter than what is corrected."""
    assert updates[-1].since_s == 0
    return list(updates[-1].turns)


def _speaker_at(turns: Iterable[pb.Turn], time_s: float) -> list[int]:
    return [turn.speaker for turn in turns if turn.start_s <= time_s < turn.end_s]


def _assert_well_formed(updates: list[pb.Update]) -> None:
    for before, after in pairwise(updates):
        assert before.since_s <= after.since_s
        assert before.until_s <= after.until_s
    for update in updates:
        starts_s = [turn.start_s for turn in update.turns]
        assert starts_s == sorted(starts_s)
        assert all(update.since_s <= turn.start_s < turn.end_s <= update.until_s for turn in update.turns)
    firsts = list(dict.fromkeys(turn.speaker for update in updates for turn in update.turns))
    assert firsts == list(range(1, len(firsts) + 1))


async def test_the_voices_of_a_dialogue_are_told_apart_while_it_is_going_on(server: Server, recording: Read) -> None:
    pcm = recording("endgame_nagg_nell.wav")
    call = server.stub.Diarize(timeout=60)
    for request in [_config(), *_audio(pcm[: 15 * 16_000])]:
        await call.write(request)
    # The rest is not sent before this is known.
    update = await _until(call, 14)
    assert [_speaker_at(update.turns, time_s) for time_s in (6.5, 10.0, 13.0)] == [[1], [2], [1]]
    for request in _audio(pcm[15 * 16_000 :]):
        await call.write(request)
    await call.done_writing()
    *updates, last = await _rest(call)
    turns = _known([event.update for event in updates])
    assert [_speaker_at(turns, time_s) for time_s in (6.5, 10.0, 13.0, 16.0, 25.0)] == [[1], [2], [1], [2], [1]]
    assert (last.finished.speakers, last.finished.samples) == (2, len(pcm))


@pytest.mark.parametrize("name", ["endgame_nagg_nell.wav", "two_cities.wav", "clone-test.wav"])
async def test_updates_go_forward_and_numbers_are_given_in_turn(server: Server, recording: Read, name: str) -> None:
    updates, finished = await _session(server, _audio(recording(name)))
    _assert_well_formed(updates)
    assert updates[-1].until_s == finished.duration_s
    assert finished.speakers == len({turn.speaker for update in updates for turn in update.turns})


async def test_live_and_as_a_recording_the_same_is_found(server: Server, recording: Read) -> None:
    pcm = recording("endgame_nagg_nell.wav")
    turns = _known((await _session(server, _audio(pcm)))[0])
    whole = await server.diarize(pcm)
    times_s = np.arange(0, len(pcm) / 16_000, 0.1)
    same = [_speaker_at(turns, time_s) == whole.speaker_at(time_s) for time_s in times_s]
    assert np.mean(same) > 0.95


async def test_the_first_words_are_told_after_a_step(server: Server, recording: Read) -> None:
    updates, _ = await _session(server, _audio(recording("two_cities.wav")[int(1.3 * 16_000) :][: 5 * 16_000]))
    assert updates[0].until_s <= 1.25
    assert updates[0].turns


@pytest.mark.parametrize("speakers", [1, 2])
async def test_no_more_speakers_are_told_than_asked_for(server: Server, recording: Read, speakers: int) -> None:
    pcm = np.concatenate(
        [recording("endgame_nagg_nell.wav")[: 20 * 16_000], recording("two_cities.wav")[: 10 * 16_000]]
    )
    updates, finished = await _session(server, _audio(pcm), speakers)
    _assert_well_formed(updates)
    assert finished.speakers == speakers


async def test_what_is_flushed_is_told_at_once_and_the_session_goes_on(server: Server, recording: Read) -> None:
    pcm = recording("endgame_nagg_nell.wav")[: 20 * 16_000]
    call = server.stub.Diarize(timeout=60)
    await call.write(_config())
    for start, end in pairwise([0, 0, 53_333, 111_111, 160_001]):
        for request in [*_audio(pcm[start:end]), _FLUSH]:
            await call.write(request)
        await _until(call, end / 16_000)
    for request in _audio(pcm[160_001:]):
        await call.write(request)
    await call.done_writing()
    flushed = [event.update for event in await _rest(call) if event.HasField("update")]
    straight, _ = await _session(server, _audio(pcm))
    times_s = np.arange(0, 20, 0.1)
    told = [[_speaker_at(_known(updates), time_s) for time_s in times_s] for updates in (flushed, straight)]
    assert np.mean([one == other for one, other in zip(*told, strict=True)]) > 0.98


async def test_every_flush_is_answered(server: Server, recording: Read) -> None:
    pcm = recording("two_cities.wav")[: 3 * 16_000]
    updates, _ = await _session(
        server, [_FLUSH, _FLUSH, *_audio(pcm[:160]), _FLUSH, *_audio(pcm[160:]), _FLUSH, _FLUSH]
    )
    assert [update.until_s for update in updates] == [0, 0, 0.01, 1.0, 2.25, 3.0, 3.0]
    assert updates[-1] == updates[-2]


@pytest.mark.parametrize("seconds", [0, 0.01, 3, 25])
async def test_silence_has_updates_without_turns(server: Server, seconds: float) -> None:
    updates, finished = await _session(server, _audio(np.zeros(int(seconds * 16_000), np.int16)))
    assert not any(update.turns for update in updates)
    assert [update.until_s for update in updates[-1:]] == [seconds] * bool(seconds)
    assert (finished.samples, finished.speakers) == (int(seconds * 16_000), 0)


@pytest.mark.parametrize("portion_bytes", [998, 65_536])
async def test_how_audio_is_cut_into_messages_changes_nothing(
    server: Server, recording: Read, portion_bytes: int
) -> None:
    pcm = recording("endgame_nagg_nell.wav")[5 * 16_000 : 17 * 16_000]
    usual, _ = await _session(server, _audio(pcm))
    assert (await _session(server, _audio(pcm, portion_bytes)))[0] == usual


async def test_two_sessions_at_once_do_not_mix(serve: Serve, recording: Read) -> None:
    dialogue, reading = recording("endgame_nagg_nell.wav")[: 20 * 16_000], recording("beckett.wav")
    async with serve(max_sessions=2) as server:
        both = await asyncio.gather(_session(server, _audio(dialogue)), _session(server, _audio(reading)))
        alone = await _session(server, _audio(dialogue))
    assert both[0] == alone
    assert [finished.speakers for _, finished in both] == [2, 1]


async def test_a_session_that_is_hung_up_frees_its_place(serve: Serve, recording: Read) -> None:
    async with serve(max_sessions=1) as server:
        call = server.stub.Diarize([_config(), *_audio(np.tile(recording("two_cities.wav"), 4))], timeout=60)
        assert (await call.read()).HasField("update")
        call.cancel()
        async with asyncio.timeout(5):
            while not await _admitted(server):
                pass


async def test_audio_is_not_taken_faster_than_it_is_dealt_with_and_what_waits_is_given_up(networks: Networks) -> None:
    release, taken = Event(), 0

    async def audio() -> AsyncIterator[bytes | Flush]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield bytes(65_536)

    with ThreadPoolExecutor(1) as executor:
        executor.submit(release.wait)
        async with aclosing(Community1(networks, executor, {0: 5.0}, ahead=2).listen(audio(), 0)) as updates:
            waiting = asyncio.ensure_future(anext(updates))
            for _ in range(100):
                await asyncio.sleep(0)
            assert taken == 1
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert executor._work_queue.qsize() == 1
        release.set()


class _Assembly:
    """Networks that hear one of twenty people in every window; in the place of what would take half an hour."""

    def __init__(self) -> None:
        random = np.random.default_rng(5)
        self._people = random.normal(size=(20, 256)).astype(np.float32)
        self.order: list[int] = random.integers(0, 20, 1080).tolist()
        self._speaks = iter(self.order)

    def segment(self, windows: Pcm) -> npt.NDArray[np.bool_]:
        active = np.zeros((len(windows), WINDOW_FRAMES, WINDOW_VOICES), bool)
        active[:, 50:500, 0] = True
        return active

    def features(self, samples: Pcm, speech: npt.NDArray[np.bool_], first: int = 0) -> npt.NDArray[np.float32]:
        return np.zeros((FEATURE_CHANNELS, -(-(len(samples) // 160 - 1 - first) // 8)), np.float32)

    def embed(self, features: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.repeat(self._people[[next(self._speaks)]], len(weights), axis=0)


def test_in_hours_nobody_loses_his_number_and_what_is_kept_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    # Every window is a step, so that three hours are heard in seconds.
    monkeypatch.setattr(community1_live, "_STEP_SAMPLES", 160_000)
    assembly = _Assembly()
    session = LiveSession(cast(Networks, assembly), 0)
    numbers, sizes_bytes = dict[int, int](), []
    for _ in range(3):
        for _ in range(360):
            update = session.hear(bytes(320_000))
            assert update.until_s - update.since_s <= HORIZON_S
            numbers |= {int((turn.start_s + turn.end_s) / 2 // 10): turn.speaker for turn in update.turns}
        sizes_bytes.append(len(pickle.dumps(session)))
    assert len(numbers) == 1080
    assert sorted({(number, assembly.order[window]) for window, number in numbers.items()}) == [
        (number + 1, person) for number, person in enumerate(dict.fromkeys(assembly.order))
    ]
    assert sizes_bytes[2] < 1.01 * sizes_bytes[0]
    assert sizes_bytes[2] < 2_500_000
