"""Diarization beside a session, without a wire: what is known later is told later, and what failed keeps nothing."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from services.common.audio import Flush
from services.common.errors import Reason, SttError
from services.edge.engine import Diarized, Update
from services.edge.stream.audio import BYTES_PER_S, AudioQueue
from services.edge.stream.dialects import Documented
from services.edge.stream.naming import BACKLOG_BYTES, Naming
from services.edge.transcript import Segment, Turn, Word

WORD = Segment(0.0, 1.0, "word", 0.9, (Word("word", 0.0, 1.0, 0.9),))


def queue() -> AudioQueue:
    return AudioQueue(BACKLOG_BYTES, 60, asyncio.get_running_loop().time)


class Client:
    """Is sent messages; the first that names speakers waits until he reads."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.warned = asyncio.Event()
        self.waiting = asyncio.Event()
        self.reads = asyncio.Event()

    async def send(self, message: dict[str, Any]) -> None:
        if message.get("segments"):
            if not self.waiting.is_set():
                self.waiting.set()
                await self.reads.wait()
            self.told += [(segment["id"], segment["speaker"]) for segment in message["segments"]]
        if "warning" in message:
            self.warned.set()


async def test_a_correction_never_comes_before_what_it_corrects() -> None:
    client, updates = Client(), asyncio.Queue[Update]()

    async def diarize(audio: AsyncIterator[bytes | Flush], speakers: int) -> AsyncGenerator[Update | Diarized, None]:
        for _ in range(2):
            yield await updates.get()
            updates.task_done()
        yield Diarized((), ())

    async with asyncio.TaskGroup() as tasks:
        naming = Naming(diarize, 0, queue(), Documented(), client.send, tasks, 60)
        naming.begin()
        updates.put_nowait(Update(0, 1, (Turn(0, 1, 1),)))
        await updates.join()
        telling = tasks.create_task(naming.tell(WORD, {}))
        await client.waiting.wait()
        updates.put_nowait(Update(0, 1, (Turn(0, 1, 2),)))
        # The correction is as far as it gets.
        for _ in range(10):
            await asyncio.sleep(0)
        client.reads.set()
        await telling
        await naming.finish()
    assert client.told == [(1, "Speaker 1"), (1, "Speaker 2")]


async def test_a_diarization_that_failed_keeps_no_audio() -> None:
    client, audio = Client(), queue()

    async def diarize(audio: AsyncIterator[bytes | Flush], speakers: int) -> AsyncGenerator[Update | Diarized, None]:
        raise SttError(Reason.OVERLOADED, "As many sessions as it takes.")
        yield Diarized((), ())

    async with asyncio.TaskGroup() as tasks:
        naming = Naming(diarize, 0, audio, Documented(), client.send, tasks, 60)
        await naming.hear(bytes(BYTES_PER_S))
        naming.begin()
        await client.warned.wait()
        await naming.hear(bytes(BYTES_PER_S))
        await naming.finish()
    assert audio.backlog_bytes == 0


async def test_who_sends_faster_than_he_speaks_waits_for_a_diarization_that_goes_on() -> None:
    client, heard = Client(), bytearray()

    async def diarize(audio: AsyncIterator[bytes | Flush], speakers: int) -> AsyncGenerator[Update | Diarized, None]:
        async for piece in audio:
            assert isinstance(piece, bytes)
            heard.extend(piece)
            await asyncio.sleep(0)
        yield Diarized((), ())

    async with asyncio.TaskGroup() as tasks:
        naming = Naming(diarize, 0, queue(), Documented(), client.send, tasks, 60)
        naming.begin()
        for _ in range(200):
            await naming.hear(bytes(BYTES_PER_S))
        naming.end()
    assert len(heard) == 200 * BYTES_PER_S


async def test_who_speaks_in_real_time_never_waits_for_a_diarization_that_falls_behind() -> None:
    client, second = Client(), 0

    async def diarize(audio: AsyncIterator[bytes | Flush], speakers: int) -> AsyncGenerator[Update | Diarized, None]:
        await asyncio.Event().wait()
        yield Diarized((), ())

    async with asyncio.TaskGroup() as tasks:
        audio = AudioQueue(BACKLOG_BYTES, 60, lambda: second)
        naming = Naming(diarize, 0, audio, Documented(), client.send, tasks, 60)
        naming.begin()
        while not client.warned.is_set():
            second += 1
            await naming.hear(bytes(BYTES_PER_S))
            await asyncio.sleep(0)
    assert second * BYTES_PER_S < 1.2 * BACKLOG_BYTES
