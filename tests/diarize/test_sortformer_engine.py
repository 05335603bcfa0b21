"""What the Sortformer engine makes of answers that are given here: who gets a number, and who is heard when."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
import pytest

from services.common.audio import Flush
from services.diarize.engine import Update
from services.diarize.engines.sortformer.batches import Batches
from services.diarize.engines.sortformer.chunks import Chunk, Heard
from services.diarize.engines.sortformer.engine import Sortformer
from services.diarize.engines.sortformer.presets import PRESETS
from services.diarize.engines.sortformer.stream import Stream

FRAME_SAMPLES = 1_280
LIVE, LONG = PRESETS[1.04], PRESETS[10.0]


class Scripted:
    """Answers every stream with the rows of a script, whoever is in the batch; says which presets it was asked for."""

    def __init__(self, script: Sequence[str]) -> None:
        """The script has a word for every frame, the channels that are active in it."""
        self._rows = [[0.9 if str(channel) in word else 0.1 for channel in range(4)] for word in script]
        self.asked: list[object] = []

    def hear(self, chunks: Sequence[Chunk]) -> list[Heard]:
        self.asked.append(chunks[0].preset)
        heard = []
        for chunk in chunks:
            first = chunk.state if isinstance(chunk.state, int) else 0
            rows = (self._rows[(first + i) % len(self._rows)] for i in range(chunk.frames))
            heard.append(Heard(np.array(list(rows), np.float16), first + chunk.frames))
        return heard


@pytest.fixture
def thread() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


async def listen(thread: Executor, script: Sequence[str], speakers: int, *, flush_at: int = -1) -> list[Update]:
    """Hear a session of so many frames as the script has."""

    async def audio() -> AsyncIterator[bytes | Flush]:
        for frame in range(len(script)):
            if frame == flush_at:
                yield Flush()
            yield bytes(2 * FRAME_SAMPLES)

    engine = Sortformer("sortformer", 4, True, Batches(Scripted(script), thread, 1), LONG, LIVE)
    return [update async for update in engine.listen(audio(), speakers)]


def named(updates: list[Update]) -> set[int]:
    return {turn.speaker for update in updates for turn in update.turns}


async def test_a_frame_that_stands_alone_takes_no_speakers_place(thread: Executor) -> None:
    # Channel 3 is there for a frame; the second voice comes later.
    script = ["0"] * 10 + ["03"] + ["0"] * 10 + ["1"] * 20
    updates = await listen(thread, script, speakers=2)
    late = [turn for update in updates for turn in update.turns if turn.start_s > 22 * 0.08]
    assert named(updates) == {1, 2}
    assert {turn.speaker for turn in late} == {2}


async def test_what_a_flush_shows_takes_no_place_before_it_is_heard_for_good(thread: Executor) -> None:
    script = ["0"] * 6 + ["1"] * 30
    plain = await listen(thread, script, speakers=2)
    flushed = await listen(thread, script, speakers=2, flush_at=9)
    assert named(plain) == named(flushed) == {1, 2}


async def test_recordings_are_heard_however_many_live_chunks_wait(thread: Executor) -> None:
    network = Scripted(["0"])
    batches = Batches(network, thread, 1)
    is_heard = asyncio.Event()

    async def live() -> None:
        stream = Stream(batches, LIVE, is_live=True)
        stream.add(bytes(2 * FRAME_SAMPLES * 10_000))
        while not is_heard.is_set():
            assert await stream.advance() is not None

    async def record() -> None:
        stream = Stream(batches, LONG, is_live=False)
        stream.add(bytes(2 * FRAME_SAMPLES * 200))
        await stream.advance()
        is_heard.set()

    async with asyncio.timeout(30):
        await asyncio.gather(live(), live(), record())
    assert network.asked.index(LONG) < 5


async def test_a_session_without_audio_is_told_of_nothing(thread: Executor) -> None:
    assert await listen(thread, [], speakers=0) == []
