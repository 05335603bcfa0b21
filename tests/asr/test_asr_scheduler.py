"""What is decoded next, and with what: an engine that the test holds still and lets go."""

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.asr.engine import Hypothesis, SpokenWord, Utterance
from services.asr.scheduler import Job, Kind, Scheduler, Seat, pick
from services.common.errors import Reason, SttError

LONG_S = 1_000.0


def utterance(number: int) -> Utterance:
    return Utterance(np.full(16, number, np.int16), "en")


class HeldEngine:
    """Says the utterance's number; holds the worker that decodes number 0 until it is let go."""

    id = "held"
    languages = ("en",)
    max_chunk_s = 15.0
    max_live_chunk_s = 10.0
    live_tail_s = 0.5

    def __init__(self, workers: int = 1, max_batch: int = 1, work_s: float = 0.0) -> None:
        self.workers = workers
        self.max_batch = max_batch
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self._work_s = work_s
        self._loop = asyncio.get_running_loop()
        self._began = asyncio.Semaphore(0)

    def decode(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        numbers = [int(each.samples[0]) for each in utterances]
        self.batches.append(numbers)
        self._loop.call_soon_threadsafe(self._began.release)
        if 0 in numbers:
            self.go.wait(10)
        if 13 in numbers:
            raise ValueError("thirteen")
        threading.Event().wait(self._work_s)
        return [Hypothesis((SpokenWord(str(number), (-0.1,)),)) for number in numbers]

    @property
    def order(self) -> list[int]:
        """What was decoded, in order, without number 0."""
        return [number for batch in self.batches for number in batch if number]

    async def began(self, batches: int = 1) -> None:
        async with asyncio.timeout(5):
            for _ in range(batches):
                await self._began.acquire()


@asynccontextmanager
async def scheduling(
    engine: HeldEngine, *, max_waiting: int = 100, file_wait_s: float = LONG_S
) -> AsyncIterator[Scheduler]:
    async with Scheduler(workers=engine.workers, max_waiting=max_waiting, file_wait_s=file_wait_s) as scheduler:
        go = engine.go
        del engine
        try:
            yield scheduler
        finally:
            go.set()


async def asked(*coroutines: object) -> list[asyncio.Task[Hypothesis | None]]:
    """Tasks that have come to where they wait."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]  # type: ignore[call-overload]
    await asyncio.sleep(0)
    return tasks


async def test_finals_go_before_looks_and_looks_before_recordings() -> None:
    engine = HeldEngine()
    async with scheduling(engine) as scheduler:
        with scheduler.seat(engine, 0.0) as seat:
            await asked(seat.final(utterance(0)))
            await engine.began()
            tasks = await asked(
                scheduler.decode(engine, utterance(1)), seat.look(utterance(2)), seat.final(utterance(3)),
                scheduler.decode(engine, utterance(4)), seat.final(utterance(5)),
            )  # fmt: skip
            engine.go.set()
            await asyncio.gather(*tasks)
    assert engine.order == [3, 5, 2, 1, 4]


async def test_a_recording_that_waited_as_long_as_it_may_goes_before_looks_but_not_before_finals() -> None:
    engine = HeldEngine()
    async with scheduling(engine, file_wait_s=0.0) as scheduler:
        with scheduler.seat(engine, 0.0) as seat:
            await asked(seat.final(utterance(0)))
            await engine.began()
            tasks = await asked(
                seat.look(utterance(1)), scheduler.decode(engine, utterance(2)), seat.final(utterance(3))
            )
            engine.go.set()
            await asyncio.gather(*tasks)
    assert engine.order == [3, 2, 1]


async def test_a_session_of_low_priority_lets_others_go_first() -> None:
    engine = HeldEngine()
    async with scheduling(engine) as scheduler:
        with scheduler.seat(engine, 1.0) as low, scheduler.seat(engine, 0.0) as normal:
            await asked(normal.final(utterance(0)))
            await engine.began()
            tasks = await asked(
                low.look(utterance(1)), low.final(utterance(2)), normal.look(utterance(3)), normal.final(utterance(4))
            )
            engine.go.set()
            await asyncio.gather(*tasks)
    assert engine.order == [4, 2, 3, 1]


async def test_a_newer_look_takes_the_place_of_the_one_that_waits() -> None:
    engine = HeldEngine()
    async with scheduling(engine) as scheduler:
        with scheduler.seat(engine, 0.0) as one, scheduler.seat(engine, 0.0) as other:
            await asked(one.final(utterance(0)))
            await engine.began()
            tasks = await asked(one.look(utterance(1)), other.look(utterance(2)))
            assert one.renew(utterance(3))
            engine.go.set()
            heard = await asyncio.gather(*tasks)
            assert not one.renew(utterance(4))
    assert engine.order == [3, 2]
    assert [hypothesis and hypothesis.text for hypothesis in heard] == ["3", "2"]


async def test_a_withdrawn_look_is_not_decoded() -> None:
    engine = HeldEngine()
    async with scheduling(engine) as scheduler:
        with scheduler.seat(engine, 0.0) as seat:
            await asked(seat.final(utterance(0)))
            await engine.began()
            (look,) = await asked(seat.look(utterance(1)))
            seat.withdraw()
            assert await look is None
            engine.go.set()
            await seat.final(utterance(2))
    assert engine.order == [2]


async def test_what_is_cancelled_while_it_waits_is_not_decoded() -> None:
    engine = HeldEngine()
    async with scheduling(engine) as scheduler:
        with scheduler.seat(engine, 0.0) as seat:
            await asked(seat.final(utterance(0)))
            await engine.began()
            tasks = await asked(
                scheduler.decode(engine, utterance(1)), seat.look(utterance(2)), seat.final(utterance(3))
            )
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            engine.go.set()
            await scheduler.decode(engine, utterance(4))
    assert engine.order == [4]


async def test_a_full_queue_admits_nobody_and_shows_nothing_but_loses_nothing_of_who_is_admitted() -> None:
    engine = HeldEngine()
    async with scheduling(engine, max_waiting=2) as scheduler:
        with scheduler.seat(engine, 0.0) as seat:
            await asked(seat.final(utterance(0)))
            await engine.began()
            tasks = await asked(*(scheduler.decode(engine, utterance(number)) for number in (1, 2, 3)))
            with pytest.raises(SttError) as caught:
                scheduler.check_room()
            assert caught.value.reason is Reason.OVERLOADED
            assert caught.value.retryable
            assert await seat.look(utterance(4)) is None
            engine.go.set()
            await asyncio.gather(*tasks)
            scheduler.check_room()
    assert engine.order == [1, 2, 3]


async def test_what_shares_a_batch_fills_the_queue_as_one() -> None:
    engine = HeldEngine(max_batch=4)
    async with scheduling(engine, max_waiting=2) as scheduler:
        tasks = await asked(scheduler.decode(engine, utterance(0)))
        await engine.began()
        tasks += await asked(*(scheduler.decode(engine, utterance(number)) for number in range(1, 8)))
        scheduler.check_room()
        tasks += await asked(scheduler.decode(engine, utterance(8)))
        with pytest.raises(SttError):
            scheduler.check_room()
        engine.go.set()
        await asyncio.gather(*tasks)


async def test_an_idle_scheduler_keeps_no_engine_alive() -> None:
    engine = HeldEngine()
    async with scheduling(engine) as scheduler:
        await scheduler.decode(engine, utterance(1))
        await asyncio.sleep(0)
        held = weakref.ref(engine)
        del engine
        gc.collect()
        assert held() is None


async def test_recordings_leave_a_worker_to_live_sessions_while_there_are_any() -> None:
    engine = HeldEngine(workers=2)
    async with scheduling(engine, file_wait_s=0.0) as scheduler:
        with scheduler.seat(engine, 0.0) as seat:
            tasks = await asked(scheduler.decode(engine, utterance(0)), scheduler.decode(engine, utterance(1)))
            await engine.began()
            assert (await seat.final(utterance(2))).text == "2"
            assert engine.order == [2]
        await tasks[1]
        engine.go.set()
        await tasks[0]
    assert engine.order == [2, 1]


async def test_the_only_worker_serves_recordings_too() -> None:
    engine = HeldEngine(workers=1)
    async with scheduling(engine) as scheduler:
        with scheduler.seat(engine, 0.0):
            assert (await scheduler.decode(engine, utterance(1))).text == "1"


async def test_looks_grow_rarer_with_the_work_they_make_and_with_those_who_speak() -> None:
    engine = HeldEngine(work_s=0.02)
    async with scheduling(engine) as scheduler:
        with scheduler.seat(engine, 0.0) as first:
            await first.look(utterance(1))
            alone_s = first.cadence_s
            seats = [scheduler.seat(engine, 0.0) for _ in range(60)]
            others: list[Seat] = [seat.__enter__() for seat in seats]
            await asyncio.gather(*(other.look(utterance(2)) for other in others))
            together_s = first.cadence_s
            for seat in seats:
                seat.__exit__(None, None, None)
            assert alone_s <= first.cadence_s < together_s
    # 61 looks of at least 20 ms in a round.
    assert together_s >= 61 * 0.02


async def test_as_many_live_sessions_are_taken_as_the_device_keeps_up_with() -> None:
    engine = HeldEngine()
    async with scheduling(engine) as scheduler:
        scheduler.expect(engine, 60.0)
        # Whatever it takes, one is served.
        scheduler.check_seat(engine)
        with scheduler.seat(engine, 0.0) as seat:
            with pytest.raises(SttError) as caught:
                scheduler.check_seat(engine)
            assert caught.value.reason is Reason.OVERLOADED
            # Looks turn out to be short.
            for _ in range(60):
                await seat.look(utterance(1))
            scheduler.check_seat(engine)


def heard(hypotheses: Iterable[Hypothesis | None]) -> list[str]:
    return [hypothesis.text if hypothesis else "" for hypothesis in hypotheses]


async def test_an_engine_that_batches_gets_batches_of_one_kind_with_the_same_outcome_as_alone() -> None:
    numbers = range(1, 8)
    alone = HeldEngine()
    async with scheduling(alone) as scheduler:
        expected = [await scheduler.decode(alone, utterance(number)) for number in numbers]
    engine = HeldEngine(max_batch=4)
    async with scheduling(engine) as scheduler:
        with scheduler.seat(engine, 0.0) as seat:
            await asked(seat.final(utterance(0)))
            await engine.began()
            tasks = await asked(
                *(scheduler.decode(engine, utterance(number)) for number in range(1, 6)),
                *(seat.final(utterance(number)) for number in (6, 7)),
            )
            engine.go.set()
            together = await asyncio.gather(*tasks)
    assert heard(together) == heard(expected)
    assert engine.batches == [[0], [6, 7], [1, 2, 3, 4], [5]]


async def test_a_batch_waits_a_moment_for_company() -> None:
    engine = HeldEngine(max_batch=2)
    async with scheduling(engine) as scheduler:
        first = await asked(scheduler.decode(engine, utterance(1)))
        await asyncio.sleep(0)
        second = await asked(scheduler.decode(engine, utterance(2)))
        await asyncio.gather(*first, *second)
    assert engine.batches == [[1, 2]]


async def test_a_failing_engine_fails_those_who_asked_and_nobody_else() -> None:
    engine = HeldEngine()
    async with scheduling(engine) as scheduler:
        with pytest.raises(ValueError, match="thirteen"):
            await scheduler.decode(engine, utterance(13))
        assert (await scheduler.decode(engine, utterance(1))).text == "1"


job = st.builds(
    lambda kind, asked, wait: (kind, asked, asked + wait),
    st.sampled_from(Kind),
    st.floats(0, 20),
    st.sampled_from([0.0, 1.0, 5.0]),
)


@given(st.lists(job, min_size=1, max_size=12), st.floats(20, 40), st.booleans())
def test_nothing_is_overtaken_that_must_not_be(jobs: list[tuple[Kind, float, float]], now: float, held: bool) -> None:
    loop = asyncio.new_event_loop()
    try:
        engine: Any = None
        waiting = [
            Job(engine, kind, asked, deadline, utterance(1), loop.create_future()) for kind, asked, deadline in jobs
        ]
    finally:
        loop.close()
    chosen = pick(waiting, now, files_wait=held)
    eligible = [each for each in waiting if not (held and each.kind is Kind.FILE)]
    assert (chosen is None) == (not eligible)
    if chosen is None:
        return
    same = [each for each in eligible if each.kind is chosen.kind]
    assert chosen.deadline == min(each.deadline for each in same)
    overdue = any(each.kind is Kind.FILE and each.deadline <= now for each in eligible)
    if any(each.kind is Kind.FINAL for each in eligible):
        assert chosen.kind is Kind.FINAL
    elif overdue:
        assert chosen.kind is Kind.FILE
    elif any(each.kind is Kind.LOOK for each in eligible):
        assert chosen.kind is Kind.LOOK
