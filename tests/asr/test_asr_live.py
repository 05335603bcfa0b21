"""Live sessions over the wire, on the real engine: words while somebody speaks, and when they stop."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from itertools import pairwise
from math import inf
from typing import Any

import grpc
import numpy as np
import pytest
from stt.asr.v1 import asr_pb2 as pb

from services.asr.engine import Engine, Hypothesis, Utterance
from services.asr.engines.moonshine import Moonshine
from services.common.errors import Reason
from services.common.rpc_errors import from_error
from tests.asr.conftest import Pcm, Serve, live, portioned, requests
from tests.asr.test_asr_requests import admitted
from tests.asr.test_asr_transcribing import clicks, hum, silence, spoken_words, white_noise, word_errors

LIVE = next(iter(live([])))


class Watched:
    """The real engine, counted, and held while `gate` is closed."""

    def __init__(self, engine: Moonshine) -> None:
        self._engine = engine
        self.lengths_s: list[float] = []
        self.gate = threading.Event()
        self.gate.set()
        self.decoded = threading.Event()
        self.live_tail_s = engine.live_tail_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def decode(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        self.lengths_s += [len(utterance.samples) / 16_000 for utterance in utterances]
        self.gate.wait(20)
        try:
            return self._engine.decode(utterances)
        finally:
            self.decoded.set()


@pytest.fixture
def watched(engine: Moonshine) -> Watched:
    return Watched(engine)


def quiet(seconds: float) -> Pcm:
    return np.zeros(round(seconds * 16_000), np.int16)


def kinds(events: Iterable[Any]) -> list[str]:
    return [event.WhichOneof("event") for event in events]


def segments(events: Iterable[Any]) -> list[Any]:
    return [event.segment for event in events if event.WhichOneof("event") == "segment"]


def words(events: Iterable[Any]) -> list[str]:
    return spoken_words(" ".join(segment.text for segment in segments(events)))


async def paced(pcm: Pcm, times: float, **config: str) -> AsyncIterator[pb.TranscribeRequest]:
    """A microphone whose clock runs `times` as fast as ours."""
    for request in live(portioned(pcm), **config):
        yield request
        await asyncio.sleep(len(request.audio) / 32_000 / times)


@pytest.mark.parametrize("name", ["two_cities.wav", "beckett.wav"])
async def test_a_streamed_reading_has_the_words_of_the_file(
    serve: Serve, load: Callable[[str], Pcm], name: str
) -> None:
    pcm = load(name)
    async with serve() as server:
        streamed = await server.live(pcm)
        whole = await server.events(pcm)
    assert word_errors(words(whole), words(streamed)) <= max(2, 0.05 * len(words(whole)))
    assert streamed[-1].finished.samples == len(pcm)
    assert streamed[-1].finished.duration_s == len(pcm) / 16_000


async def test_interim_text_precedes_its_segment_and_what_was_stable_stays(
    serve: Serve, load: Callable[[str], Pcm]
) -> None:
    async with serve() as server:
        events = [event async for event in server.stub.Transcribe(paced(load("beckett.wav"), 4), timeout=60)]
    stable, partials, begun = "", 0, None
    for event in events:
        match event.WhichOneof("event"):
            case "partial":
                partial = event.partial
                assert partial.text.startswith(stable)
                assert partial.stable_characters >= len(stable)
                stable = partial.text[: partial.stable_characters]
                assert begun in (None, partial.start_s)
                begun = partial.start_s
                partials += 1
            case "segment":
                stable, begun = "", None
    assert partials >= 3
    assert kinds(events).index("speech_started") < kinds(events).index("partial") < kinds(events).index("segment")


@pytest.mark.parametrize("kept", [0, 3, 8])
def test_what_an_earlier_look_heard_does_not_decide_what_is_heard(
    engine: Moonshine, load: Callable[[str], Pcm], kept: int
) -> None:
    samples = load("beckett.wav")[: 6 * 16_000]
    (plain,) = engine.decode([Utterance(samples, "en")])
    (drafted,) = engine.decode([Utterance(samples, "en", (*plain.tokens[:kept], *plain.tokens[:9]))])
    assert len(plain.words) >= 6
    assert word_errors(spoken_words(plain.text), spoken_words(drafted.text)) <= 1


async def test_without_interim_results_there_are_none_and_each_chunk_is_decoded_once(
    serve: Serve, load: Callable[[str], Pcm], watched: Watched
) -> None:
    async with serve(engine=watched) as server:
        call = server.stub.Transcribe(live(portioned(load("beckett.wav")), interim_results=False), timeout=60)
        events = [event async for event in call]
    assert "partial" not in kinds(events)
    assert segments(events)
    assert sum(watched.lengths_s) < 2 * 10


async def test_speech_that_pauses_is_decoded_before_anybody_knows_that_it_ended_and_not_again(
    serve: Serve, load: Callable[[str], Pcm], watched: Watched
) -> None:
    watched.live_tail_s = 0.2
    phrase = load("beckett.wav")[4_000:21_600]
    async with serve(engine=watched) as server:
        call = server.stub.Transcribe(timeout=60)
        begun = portioned(np.concatenate([phrase, quiet(1.0)]))
        for request in live(begun, interim_results=False, endpoint_silence_ms=3_000):
            await call.write(request)
        assert await asyncio.to_thread(watched.decoded.wait, 20)
        decoded = list(watched.lengths_s)
        for portion in portioned(quiet(2.5)):
            await call.write(pb.TranscribeRequest(audio=portion))
        await call.done_writing()
        assert words([event async for event in call]) == ["ever", "tried"]
    assert watched.lengths_s == decoded


async def test_speech_that_goes_on_after_a_pause_is_one_segment_with_all_words(
    serve: Serve, load: Callable[[str], Pcm], watched: Watched
) -> None:
    watched.live_tail_s = 0.2
    phrase = load("beckett.wav")[4_000:21_600]
    spoken = np.concatenate([phrase, quiet(0.6), phrase, quiet(1.5)])
    async with serve(engine=watched) as server:
        events = await server.live(spoken, interim_results=False, endpoint_silence_ms=1_000)
    assert len(segments(events)) == 1
    assert words(events) == ["ever", "tried", "ever", "tried"]


async def test_speech_begins_and_ends_around_its_words_and_segments_count_from_one(
    serve: Serve, load: Callable[[str], Pcm]
) -> None:
    async with serve() as server:
        events = await server.live(load("two_cities.wav")[: 22 * 16_000], interim_results=False)
    assert [segment.id for segment in segments(events)] == list(range(1, len(segments(events)) + 1))
    marks = [kind for kind in kinds(events) if kind.startswith("speech_")]
    assert marks == ["speech_started", "speech_ended"] * (len(marks) // 2)
    assert len(marks) >= 4
    reached = 0.0
    for event in events:
        match event.WhichOneof("event"):
            case "speech_started":
                assert event.speech_started.at_s >= reached
                reached = event.speech_started.at_s
            case "speech_ended":
                assert event.speech_ended.at_s > reached
                reached = event.speech_ended.at_s
    spoken = [word for segment in segments(events) for word in segment.words]
    assert all(before.end_s <= after.start_s for before, after in pairwise(spoken))
    assert all(word.start_s <= word.end_s for word in spoken)


@pytest.mark.parametrize("sound", [silence, clicks])
async def test_silence_costs_no_decoding_and_gives_no_events(
    serve: Serve, watched: Watched, sound: Callable[[], Pcm]
) -> None:
    async with serve(engine=watched) as server:
        events = await server.live(sound())
    assert kinds(events) == ["started", "finished"]
    assert watched.lengths_s == []


@pytest.mark.parametrize("sound", [white_noise, hum])
async def test_noise_gives_no_words(serve: Serve, sound: Callable[[], Pcm]) -> None:
    async with serve() as server:
        events = await server.live(sound())
    assert not segments(events)
    assert all(not event.partial.text for event in events if event.WhichOneof("event") == "partial")


async def test_a_flush_gives_what_was_said_so_far_and_the_session_goes_on(
    serve: Serve, load: Callable[[str], Pcm]
) -> None:
    pcm = load("two_cities.wav")[: 22 * 16_000]
    middle = 5 * 16_000
    heard = asyncio.Event()

    async def sent() -> AsyncIterator[pb.TranscribeRequest]:
        for request in live([*portioned(pcm[:middle]), None]):
            yield request
        await heard.wait()
        for portion in portioned(pcm[middle:]):
            yield pb.TranscribeRequest(audio=portion)

    async with serve() as server:
        events = []
        async for event in server.stub.Transcribe(sent(), timeout=60):
            events.append(event)
            if event.WhichOneof("event") == "segment":
                heard.set()
        whole = await server.events(pcm)
    assert kinds(events).index("speech_ended") < kinds(events).index("segment")
    assert word_errors(words(whole), words(events)) <= 0.08 * len(words(whole))
    assert events[-1].finished.samples == len(pcm)


@pytest.mark.parametrize("portion_bytes", [3_200, 32_000])
async def test_a_second_without_audio_ends_a_segment_and_times_stay_those_of_the_audio(
    serve: Serve, load: Callable[[str], Pcm], portion_bytes: int
) -> None:
    # A sentence each, whose last sound is followed by no silence.
    cut_s, end_s = 2.9, 4.7
    parts = np.split(load("two_cities.wav")[: round(end_s * 16_000)], [round(cut_s * 16_000)])
    now = asyncio.get_running_loop().time
    finalized = asyncio.Event()
    silent_since = inf

    async def sent() -> AsyncIterator[pb.TranscribeRequest]:
        nonlocal silent_since
        yield LIVE
        for part in parts:
            finalized.clear()
            for portion in portioned(part, portion_bytes):
                yield pb.TranscribeRequest(audio=portion)
                await asyncio.sleep(len(portion) / 32_000)
            silent_since = now()
            await finalized.wait()

    async with serve() as server:
        found, waits_s = [], []
        async for event in server.stub.Transcribe(sent(), timeout=60):
            if event.WhichOneof("event") == "segment" and now() > silent_since:
                found.append(event.segment)
                waits_s.append(now() - silent_since)
                silent_since = inf
                finalized.set()
    first, second = found
    frame_s = 0.032
    assert 1 < first.start_s < first.end_s <= cut_s
    assert cut_s - frame_s <= second.start_s < second.end_s <= end_s
    assert max(waits_s) < 5


async def test_a_client_in_portions_of_two_seconds_does_not_pause_between_them(
    serve: Serve, load: Callable[[str], Pcm]
) -> None:
    pcm = load("two_cities.wav")[16_000 : 9 * 16_000]
    async with serve() as server:
        sent = live(portioned(pcm, 64_000), interim_results=False)
        in_time = [event async for event in server.stub.Transcribe(spaced(sent, 2.0), timeout=60)]
        at_once = await server.live(portioned(pcm, 64_000), interim_results=False)
    assert [segment.text for segment in segments(in_time)] == [segment.text for segment in segments(at_once)]


async def spaced(sent: Iterable[pb.TranscribeRequest], step_s: float) -> AsyncIterator[pb.TranscribeRequest]:
    for request in sent:
        yield request
        await asyncio.sleep(step_s)


@pytest.mark.parametrize("breach", [LIVE, pb.TranscribeRequest(audio=bytes(65_538)), pb.TranscribeRequest()])
async def test_what_was_said_before_a_message_that_breaks_the_protocol_is_heard(
    serve: Serve, load: Callable[[str], Pcm], breach: pb.TranscribeRequest
) -> None:
    sent = [*live(portioned(load("two_cities.wav")[16_000 : 4 * 16_000])), breach]
    events: list[Any] = []
    async with serve() as server:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await collect(server.stub.Transcribe(sent), events)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len(words(events)) >= 4


async def test_a_flush_of_nothing_is_nothing(serve: Serve) -> None:
    async with serve() as server:
        events = await server.live([None, *portioned(silence()), None, None])
    assert kinds(events) == ["started", "finished"]


async def test_a_recording_cannot_be_flushed(serve: Serve) -> None:
    async with serve() as server:
        status, error = await server.error([*requests(b""), pb.TranscribeRequest(flush=pb.Flush())])
    assert (status, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_REQUEST)


async def test_odd_portions_change_nothing(serve: Serve, load: Callable[[str], Pcm]) -> None:
    pcm = load("beckett.wav")
    async with serve() as server:
        even = await server.live(portioned(pcm), interim_results=False)
        odd = await server.live(portioned(pcm, 1_233), interim_results=False)
    assert [(segment.id, segment.text) for segment in segments(odd)] == [
        (segment.id, segment.text) for segment in segments(even)
    ]


async def test_an_offset_shifts_every_time_and_no_length(serve: Serve, load: Callable[[str], Pcm]) -> None:
    pcm = load("beckett.wav")
    async with serve() as server:
        plain = await server.live(pcm)
        shifted = await server.live(pcm, start_offset_s=100.0)
    for kind in ("speech_started", "speech_ended"):
        times = [getattr(event, kind).at_s + 100 for event in plain if event.WhichOneof("event") == kind]
        moved = [getattr(event, kind).at_s for event in shifted if event.WhichOneof("event") == kind]
        assert moved == pytest.approx(times)
    times = [word.start_s + 100 for segment in segments(plain) for word in segment.words]
    assert [word.start_s for segment in segments(shifted) for word in segment.words] == pytest.approx(times, abs=0.1)
    assert all(event.partial.start_s >= 100 for event in shifted if event.WhichOneof("event") == "partial")
    assert shifted[-1].finished.samples == len(pcm)


async def test_a_longer_endpoint_makes_longer_stretches(serve: Serve, load: Callable[[str], Pcm]) -> None:
    pcm = load("two_cities.wav")[: 22 * 16_000]
    async with serve() as server:
        short = kinds(await server.live(pcm, interim_results=False, endpoint_silence_ms=200)).count("speech_ended")
        usual = kinds(await server.live(pcm, interim_results=False)).count("speech_ended")
        long = kinds(await server.live(pcm, interim_results=False, endpoint_silence_ms=3_000)).count("speech_ended")
    assert short > usual > long


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint_silence_ms": 199},
        {"endpoint_silence_ms": 3_001},
        {"endpoint_silence_ms": -1},
        {"priority": 9},
        {"start_offset_s": -1.0},
        {"start_offset_s": float("nan")},
    ],
)
async def test_a_session_that_cannot_be_heard_as_asked_says_why(serve: Serve, options: dict[str, Any]) -> None:
    async with serve() as server:
        status, error = await server.error(live([], **options))
    assert (status, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_REQUEST)


async def test_more_sessions_than_the_service_takes_are_refused_while_recordings_are_not(
    serve: Serve, load: Callable[[str], Pcm]
) -> None:
    async with serve(max_sessions=1) as server:
        first = server.stub.Transcribe()
        await first.write(LIVE)
        assert (await first.read()).WhichOneof("event") == "started"
        status, error = await server.error(live([]))
        assert (status, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.OVERLOADED)
        assert error.retryable
        assert await server.segments(load("beckett.wav"))
        first.cancel()


async def test_who_asks_beforehand_is_told_whether_there_is_room(serve: Serve) -> None:
    async with serve(max_sessions=1) as server:
        asked = pb.CheckRoomRequest(config=LIVE.config)
        await server.stub.CheckRoom(asked, timeout=10)
        first = server.stub.Transcribe()
        await first.write(LIVE)
        await first.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.stub.CheckRoom(asked, timeout=10)
        assert from_error(caught.value, "asr").reason is Reason.OVERLOADED
        await server.stub.CheckRoom(pb.CheckRoomRequest(config=pb.TranscribeConfig()), timeout=10)
        first.cancel()


async def test_a_caller_who_hangs_up_while_his_words_are_decoded_frees_his_place(
    serve: Serve, load: Callable[[str], Pcm], watched: Watched
) -> None:
    watched.gate.clear()
    async with serve(engine=watched, max_sessions=1) as server:
        call = server.stub.Transcribe(live([*portioned(load("beckett.wav")), None]))
        async for event in call:
            if event.WhichOneof("event") == "speech_ended":
                break
        call.cancel()
        async with asyncio.timeout(1):
            # The server hears of it a moment later, and does not wait for the engine.
            while not await admitted(server.stub.Transcribe(live([]))):
                pass
        watched.gate.set()


async def test_a_session_is_only_read_so_far_ahead_of_its_segments(
    serve: Serve, load: Callable[[str], Pcm], watched: Watched
) -> None:
    pcm = np.tile(load("two_cities.wav"), 2)
    taken = 0

    async def sent() -> AsyncIterator[pb.TranscribeRequest]:
        nonlocal taken
        for request in live(portioned(pcm, 65_536), interim_results=False):
            yield request
            taken += 1
            if taken * 2.048 > 60:
                ahead.set()

    ahead = asyncio.Event()
    watched.gate.clear()
    async with serve(engine=watched, max_ahead_s=10.0) as server:
        call = server.stub.Transcribe(sent())
        async for event in call:
            if event.WhichOneof("event") == "speech_ended":
                break
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await ahead.wait()
        watched.gate.set()
        events = [event async for event in call]
    assert ahead.is_set()
    assert events[-1].finished.samples == len(pcm)


async def test_a_silent_sender_gets_the_segments_of_what_he_said_and_is_let_go(
    serve: Serve, load: Callable[[str], Pcm]
) -> None:
    async def sent() -> AsyncIterator[pb.TranscribeRequest]:
        for request in live([*portioned(load("beckett.wav")), None]):
            yield request
        await asyncio.Event().wait()

    async with serve(idle_timeout_s=0.5) as server:
        events: list[Any] = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await collect(server.stub.Transcribe(sent()), events)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert segments(events)


async def collect(call: Any, events: list[Any]) -> None:
    async for event in call:
        events.append(event)


async def test_a_failing_engine_ends_the_session_with_an_error(
    serve: Serve, load: Callable[[str], Pcm], engine: Engine
) -> None:
    class Failing(Watched):
        def decode(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
            raise ValueError("no weights")

    async with serve(engine=Failing(engine)) as server:  # type: ignore[arg-type]
        # So little that all of it is sent before anything fails: a write that comes too late hides why.
        status, error = await server.error(live(portioned(load("beckett.wav"))[:12]))
    assert (status, error.reason) == (grpc.StatusCode.INTERNAL, Reason.INTERNAL)


async def test_a_live_segment_overtakes_the_waiting_chunks_of_recordings(
    serve: Serve, load: Callable[[str], Pcm], watched: Watched
) -> None:
    watched.gate.clear()
    async with serve(engine=watched) as server:
        recordings = [asyncio.ensure_future(server.events(np.tile(load("two_cities.wav"), 2))) for _ in range(3)]
        call = server.stub.Transcribe(live([*portioned(load("beckett.wav")), None], interim_results=False))
        async for event in call:
            if event.WhichOneof("event") == "speech_ended":
                break
        begun = len(watched.lengths_s)
        watched.gate.set()
        async for event in call:
            if event.WhichOneof("event") == "segment":
                break
        # What the workers had begun, the session's own, and what one worker did for recordings meanwhile.
        assert len(watched.lengths_s) - begun <= 6
        assert not any(recording.done() for recording in recordings)
        for recording in recordings:
            recording.cancel()
