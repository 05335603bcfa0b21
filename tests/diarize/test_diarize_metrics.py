"""What the diarization service counts of its engines, and that the program shows it."""

import asyncio
import json
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from stt.diarize.v1 import diarize_pb2 as pb
from stt.diarize.v1 import diarize_pb2_grpc

from services.diarize.choice import Engines
from services.diarize.engines.community1 import STRETCH_BYTES, Community1
from services.diarize.engines.networks import Networks
from services.diarize.engines.sortformer.batches import Batches
from services.diarize.engines.sortformer.chunks import Chunk, Heard
from services.diarize.engines.sortformer.presets import PRESETS
from services.diarize.engines.sortformer.stream import Stream
from services.diarize.settings import DiarizeSettings
from tests.diarize.conftest import Pcm, Server, requests, serving
from tests.outside import Spans, metrics, until, value

MODEL = "pyannote-community-1"
LIVE = pb.DiarizeRequest(config=pb.DiarizeConfig(live=pb.LiveConfig()))
SETTINGS = DiarizeSettings(port=0, grace_s=0, drain_s=0)


def waiting(kind: str) -> float:
    return value("stt_queue_length", kind=kind)


def waited(kind: str) -> float:
    return value("stt_queue_wait_seconds_count", kind=kind)


@asynccontextmanager
async def held(networks: Networks) -> AsyncIterator[tuple[Server, threading.Event]]:
    """A server whose only thread is at work until the event."""
    release = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(release.wait)
        try:
            async with serving(Engines(Community1(networks, executor, {0: 5.0}, ahead=2)), SETTINGS) as server:
                yield server, release
        finally:
            release.set()


async def test_a_recording_counts_what_waited_was_computed_and_how_long_it_took(
    server: Server, recording: Callable[[str], Pcm]
) -> None:
    names = ("stt_queue_wait_seconds_count", "stt_batch_size_count")
    before = [value(name, kind="recording") for name in names]
    busy, factors = value("stt_engine_busy_seconds_total", model=MODEL), value("stt_real_time_factor_count")
    queue = waiting("recording")
    await server.diarize(recording("endgame_nagg_nell.wav")[: 25 * 16_000])
    # Three stretches, their voices, and the turns.
    assert [value(name, kind="recording") for name in names] == [count + 7 for count in before]
    assert value("stt_engine_busy_seconds_total", model=MODEL) > busy
    assert value("stt_real_time_factor_count") == factors + 1
    assert waiting("recording") == queue


async def test_the_span_of_a_request_tells_what_it_came_to(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = Spans(monkeypatch)
    await server.diarize(bytes(2 * 16_000))
    told = dict(spans.only().attributes or {})
    assert (told["diarize.model"], told["diarize.audio_s"], told["diarize.speakers"]) == (MODEL, 1.0, 0)


async def test_a_recording_without_audio_has_no_real_time_factor(server: Server) -> None:
    before = value("stt_real_time_factor_count")
    await server.diarize(b"")
    assert value("stt_real_time_factor_count") == before


async def test_a_live_session_counts_every_step_and_no_real_time_factor(server: Server) -> None:
    before, factors = waited("live"), value("stt_real_time_factor_count")
    audio = [pb.DiarizeRequest(audio=bytes(40_000)) for _ in range(3)]  # 1.25 s each
    async for _ in server.stub.Diarize([LIVE, *audio], timeout=60):
        pass
    assert waited("live") >= before + 3
    assert value("stt_real_time_factor_count") == factors


@pytest.mark.parametrize(
    ("kind", "sent", "pieces"),
    [
        ("recording", list(requests(bytes(2 * STRETCH_BYTES))), 2),
        ("live", [LIVE, *list(requests(bytes(40_000)))[1:]], 1),
    ],
)
async def test_work_that_waits_is_shown_until_its_caller_hangs_up(
    networks: Networks, kind: str, sent: list[pb.DiarizeRequest], pieces: int
) -> None:
    queue, count = waiting(kind), waited(kind)
    async with held(networks) as (server, _):
        call = server.stub.Diarize(sent, timeout=60)
        await until(lambda: waiting(kind) == queue + pieces)
        call.cancel()
        await until(lambda: waiting(kind) == queue)
    # What never began is no wait.
    assert waited(kind) == count


async def test_work_that_waited_is_no_longer_shown_once_it_begins(networks: Networks) -> None:
    queue, seconds = waiting("recording"), value("stt_queue_wait_seconds_sum", kind="recording")
    async with held(networks) as (server, release):
        answer = asyncio.ensure_future(server.diarize(bytes(STRETCH_BYTES)))
        await until(lambda: waiting("recording") == queue + 1)
        release.set()
        await answer
    assert waiting("recording") == queue
    assert value("stt_queue_wait_seconds_sum", kind="recording") > seconds


class Held:
    """A network that hears nothing before it is let; nobody speaks."""

    def __init__(self) -> None:
        self.started, self.released = threading.Event(), threading.Event()

    def hear(self, chunks: Sequence[Chunk]) -> list[Heard]:
        self.started.set()
        assert self.released.wait(10)
        return [Heard(np.zeros((chunk.frames, 4), np.float16), 0) for chunk in chunks]


@pytest.fixture
def network() -> Iterator[Held]:
    made = Held()
    yield made
    made.released.set()


async def test_chunks_of_the_sortformer_count_their_wait_and_their_company(network: Held) -> None:
    queue, count = waiting("recording"), waited("recording")
    heard = [value(f"stt_batch_size_{what}", kind="recording") for what in ("count", "sum")]

    def chunk() -> asyncio.Task[Any]:
        stream = Stream(batches, PRESETS[10.0], is_live=False)
        stream.add(bytes(2 * 1_280 * 200))
        return asyncio.create_task(stream.advance())

    with ThreadPoolExecutor(1) as thread:
        batches = Batches(network, thread, 8)
        first = chunk()
        await until(network.started.is_set)
        others = [chunk() for _ in range(3)]
        await until(lambda: waiting("recording") == queue + 3)
        others[0].cancel()
        # Not only when the network comes to it.
        await until(lambda: waiting("recording") == queue + 2)
        network.released.set()
        await asyncio.gather(first, *others[1:])
    assert waiting("recording") == queue
    assert waited("recording") == count + 3
    # One alone, and two together.
    assert [value(f"stt_batch_size_{what}", kind="recording") for what in ("count", "sum")] == [
        heard[0] + 2,
        heard[1] + 3,
    ]


async def test_the_program_shows_its_metrics_on_the_port_it_names() -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.diarize",
        env={**os.environ, "DIARIZE_PORT": "0", "DIARIZE_WORKERS": "3", "LOG_FORMAT": "json"},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(30):
            assert program.stderr is not None
            ready = json.loads(await program.stderr.readline())
            async with grpc.aio.insecure_channel(f"127.0.0.1:{ready['port']}") as channel:
                await Server(diarize_pb2_grpc.DiarizeServiceStub(channel)).diarize(bytes(32_000))
            shown = await metrics(ready["metrics_port"])
    finally:
        program.kill()
        await program.wait()
    for line in (
        f'stt_model_loaded{{device="cpu",model="{MODEL}"}} 1.0',
        'stt_engine_workers{device="cpu"} 3.0',
        'stt_requests_total{method="Diarize",outcome="ok"} 1.0',
        'stt_audio_seconds_total{kind="recording"} 1.0',
        'stt_requests_limit{kind="recording"} 4.0',
        'stt_requests_running{kind="recording"} 0.0',
        'stt_queue_length{kind="recording"} 0.0',
        "stt_real_time_factor_count 1.0",
    ):
        assert line in shown
