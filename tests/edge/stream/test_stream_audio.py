"""The queue between a client and recognition: nothing lost, memory bounded, and whose fault a wait is."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.audio import MAX_MESSAGE_BYTES, Flush
from services.edge.stream.audio import BYTES_PER_S, AudioQueue

LIMIT_BYTES = 8 * BYTES_PER_S


class Clock:
    """Time as a test sets it."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> AudioQueue:
    return AudioQueue(LIMIT_BYTES, 60, clock)


async def take(portions: AsyncIterator[bytes | Flush]) -> bytes:
    portion = await anext(portions)
    assert isinstance(portion, bytes)
    return portion


@given(st.lists(st.integers(0, 200_000), max_size=12), st.integers(1, 300_000))
def test_what_goes_in_comes_out_in_portions_that_a_grpc_message_may_have(sizes: list[int], limit_bytes: int) -> None:
    content = random.Random(1)
    frames = [content.randbytes(size) for size in sizes]
    most_bytes = 0

    async def run() -> list[bytes]:
        nonlocal most_bytes
        queue = AudioQueue(limit_bytes, 60, Clock())

        async def fill() -> None:
            for frame in frames:
                await queue.put(frame)
            queue.end()

        portions = []
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fill())
            async for portion in queue:
                assert isinstance(portion, bytes)
                portions.append(portion)
                most_bytes = max(most_bytes, queue.backlog_bytes)
                await asyncio.sleep(0)
        return portions

    portions = asyncio.run(run())
    assert b"".join(portions) == b"".join(frames)
    assert all(0 < len(portion) <= MAX_MESSAGE_BYTES for portion in portions)
    assert most_bytes <= limit_bytes + max(sizes, default=0) + MAX_MESSAGE_BYTES


async def test_audio_that_nobody_takes_lags_as_long_as_it_waits(queue: AudioQueue, clock: Clock) -> None:
    for tenth in range(40):
        await queue.put(bytes(BYTES_PER_S // 10))
        assert queue.lag_s == pytest.approx(tenth / 10)
        clock.now_s += 0.1


async def test_audio_that_is_taken_as_it_comes_does_not_lag(queue: AudioQueue, clock: Clock) -> None:
    portions = aiter(queue)
    for _ in range(40):
        await queue.put(bytes(BYTES_PER_S // 10))
        await take(portions)
        clock.now_s += 0.1
        assert queue.lag_s == pytest.approx(0.1)


async def test_audio_that_is_on_its_way_to_recognition_still_waits(queue: AudioQueue, clock: Clock) -> None:
    await queue.put(bytes(BYTES_PER_S))
    await take(aiter(queue))
    clock.now_s += 3
    assert queue.lag_s == pytest.approx(3)


async def test_a_burst_lags_only_from_when_it_would_have_been_spoken(queue: AudioQueue, clock: Clock) -> None:
    await queue.put(bytes(6 * BYTES_PER_S))
    portions = aiter(queue)
    await take(portions)
    await take(portions)  # so the first two seconds have been accepted
    clock.now_s += 2
    assert queue.lag_s <= 0
    clock.now_s += 3
    assert queue.lag_s == pytest.approx(3, abs=0.1)


async def test_who_fills_the_queue_is_held_back_and_his_audio_does_not_lag(queue: AudioQueue, clock: Clock) -> None:
    await queue.put(bytes(LIMIT_BYTES))
    held = asyncio.create_task(queue.put(b"\1\2"))
    await asyncio.sleep(0)
    assert queue.is_held
    clock.now_s += 1_000
    assert queue.lag_s == 0
    portions = aiter(queue)
    await take(portions)
    await held
    assert not queue.is_held
    assert queue.lag_s == 0


async def test_who_was_held_back_once_is_judged_again_when_all_was_taken(queue: AudioQueue, clock: Clock) -> None:
    await queue.put(bytes(LIMIT_BYTES))
    held = asyncio.create_task(queue.put(b"\1\2"))
    portions = aiter(queue)
    taken_bytes = 0
    while taken_bytes < LIMIT_BYTES + 2:
        taken_bytes += len(await take(portions))
    await held
    clock.now_s += 1_000
    waiting = asyncio.create_task(take(portions))
    await asyncio.sleep(0)
    await queue.put(bytes(BYTES_PER_S))
    await waiting
    clock.now_s += 7
    assert queue.lag_s == pytest.approx(7)


async def test_the_end_frees_who_is_held_back_and_drops_what_he_has(queue: AudioQueue) -> None:
    await queue.put(bytes(LIMIT_BYTES))
    held = asyncio.create_task(queue.put(b"\1\2"))
    await asyncio.sleep(0)
    queue.end()
    await held
    assert queue.received_bytes == LIMIT_BYTES


async def test_silence_of_the_client_is_a_flush(clock: Clock) -> None:
    queue = AudioQueue(LIMIT_BYTES, 0.01, clock)
    portions = aiter(queue)
    assert isinstance(await anext(portions), Flush)
    await queue.put(b"\1\2")
    assert await take(portions) == b"\1\2"
    assert isinstance(await anext(portions), Flush)
