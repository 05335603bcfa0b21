"""Shares a device's workers among all recordings and live sessions: what is decoded next, and in what company.

What is more urgent is `queue`'s business. All engines on the device share the workers; what goes into one batch is for
one engine. It knows utterances and who asks for them, not what becomes of them.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context, copy_context
from types import TracebackType

import structlog

from services.asr.engine import Engine, Hypothesis, Utterance
from services.asr.queue import Job, Kind, Queue, pick
from services.common.errors import Reason, SttError
from services.common.service_metrics import ENGINE_BUSY

# How long an utterance waits for company where the engine takes several at once.
_GATHER_S = 0.005
# Looks come no closer together than this, and may take this share of the workers; finals and recordings need the rest.
_MIN_CADENCE_S = 0.5
_LOOKS_SHARE = 0.4
# Where looks would come further apart if all sessions spoke at once, there are as many as the device keeps up with.
_MAX_CADENCE_S = 4.0
# How much the newest measurement counts.
_SMOOTHING = 0.2
_MIN_RETRY_AFTER_S, _SEAT_RETRY_AFTER_S = 1.0, 2.0


class Scheduler:
    """Decodes utterances on the engines of one device; use as an async context manager."""

    def __init__(self, *, workers: int, max_waiting: int, file_wait_s: float, device: str = "cpu") -> None:
        """Decode on `device` ("cpu", "cuda") in so many threads, let at most `max_waiting` utterances wait.

        A recording's goes ahead of looks after `file_wait_s`.
        """
        self.workers = workers
        self.device = device
        self._max_waiting = max_waiting
        self._file_wait_s = file_wait_s
        self._executor = ThreadPoolExecutor(workers, "decode")
        self._working: list[asyncio.Task[None]] = []
        self._queue = Queue()
        self._changed = asyncio.Event()
        self._seats: set[Seat] = set()
        self._idle = workers
        self._files_running = 0
        # Measured: how long a look occupies a worker, by engine, and waits for one; how long any utterance does.
        self._look_s: defaultdict[str, float] = defaultdict(float)
        self._look_wait_s = 0.0
        self._decode_s = 0.0

    async def __aenter__(self) -> "Scheduler":
        """Start the workers."""
        self._working = [asyncio.create_task(self._work()) for _ in range(self.workers)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        """End now: what waits is dropped, and nobody hears of what is being decoded."""
        for worker in self._working:
            worker.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
        self._executor.shutdown(wait=False)

    def check_room(self) -> None:
        """Raise SttError (OVERLOADED, with the delay after which there should be room) when the queue is full.

        What shares a batch counts as one; what has been admitted is never refused.
        """
        if sum(1 / job.engine.max_batch for job in self._queue) >= self._max_waiting:
            backlog_s = len(self._queue) * self._decode_s / self.workers
            raise SttError(
                Reason.OVERLOADED,
                "The service has more to transcribe than it can.",
                retry_after_s=max(_MIN_RETRY_AFTER_S, backlog_s),
            )

    def expect(self, engine: Engine, look_s: float) -> None:
        """Take a look of `engine` to occupy a worker for so long, until some were measured."""
        self._look_s[engine.id] = look_s

    def check_seat(self, engine: Engine) -> None:
        """Raise SttError (OVERLOADED) where the device does not keep up with one more live session of `engine`."""
        together_s = sum(self._look_s[seat.engine.id] for seat in self._seats) + self._look_s[engine.id]
        if self._seats and together_s > self.workers * _LOOKS_SHARE * _MAX_CADENCE_S:
            message = f"{len(self._seats)} live sessions are being transcribed, as many as {engine.id} keeps up with."
            raise SttError(Reason.OVERLOADED, message, retry_after_s=_SEAT_RETRY_AFTER_S)

    async def decode(self, engine: Engine, utterance: Utterance) -> Hypothesis:
        """Return what `engine` hears in a piece of a recording; cancelled while it waits, it is never decoded."""
        return await self._answered(self._ask(engine, Kind.FILE, utterance, self._file_wait_s))

    @contextmanager
    def seat(self, engine: Engine, late_s: float) -> Iterator["Seat"]:
        """Give a live session its place at `engine`; what it asks for counts as asked `late_s` later."""
        seat = Seat(self, engine, late_s)
        self._seats.add(seat)
        try:
            yield seat
        finally:
            seat.withdraw()
            self._seats.remove(seat)
            self._changed.set()

    def _cadence_s(self, engine: Engine) -> float:
        """Return how far apart a session's looks are now, so that all that speak together take no more than a share."""
        round_s = sum(self._look_s[seat.engine.id] for seat in self._seats if seat.speaking)
        least_s = self._look_wait_s + self._look_s[engine.id]
        return max(_MIN_CADENCE_S, round_s / (self.workers * _LOOKS_SHARE), least_s)

    def _ask(self, engine: Engine, kind: Kind, utterance: Utterance, wait_s: float) -> Job:
        loop = asyncio.get_running_loop()
        job = Job(engine, kind, loop.time(), loop.time() + wait_s, utterance, loop.create_future())
        self._queue.add(job)
        self._changed.set()
        return job

    async def _answered(self, job: Job) -> Hypothesis:
        try:
            hypothesis = await job.answer
        finally:
            self._queue.drop(job)
        assert hypothesis is not None
        return hypothesis

    async def _work(self) -> None:
        """Be one worker: decode batch after batch."""
        while True:
            await self._decode_batch(await self._next_batch())

    async def _decode_batch(self, batch: Sequence[Job]) -> None:
        loop = asyncio.get_running_loop()
        files = batch[0].kind is Kind.FILE
        self._files_running += files
        self._idle -= 1
        started = loop.time()
        try:
            hypotheses = await loop.run_in_executor(
                self._executor, _context(batch).run, batch[0].engine.decode, [job.utterance for job in batch]
            )
            for job, hypothesis in zip(batch, hypotheses, strict=True):
                if not job.answer.done():
                    job.answer.set_result(hypothesis)
        except Exception as error:  # whoever asked hears of it, and the worker goes on
            for job in batch:
                if not job.answer.done():
                    job.answer.set_exception(error)
        finally:
            self._files_running -= files
            self._idle += 1
            self._changed.set()
        self._measure(batch, started, loop.time())

    async def _next_batch(self) -> list[Job]:
        """Return the most urgent job, with as many like it as the engine takes; idle workers share."""
        while True:
            job = self._pick()
            if job and len(self._queue.kin(job)) < job.engine.max_batch:
                await asyncio.sleep(_GATHER_S)
                job = self._pick()
            if job:
                kin = self._queue.kin(job)
                batch = kin[: min(job.engine.max_batch, math.ceil(len(kin) / self._idle))]
                self._queue.take(batch, asyncio.get_running_loop().time())
                return batch
            self._changed.clear()
            # An engine that is unloaded meanwhile must not be kept by what was looked at last.
            del job
            await self._changed.wait()

    def _pick(self) -> Job | None:
        # While somebody is live, one worker takes no recordings: a live utterance finds it free within a look's time.
        files_wait = bool(self._seats) and 0 < self.workers - 1 <= self._files_running
        return pick(self._queue, asyncio.get_running_loop().time(), files_wait=files_wait)

    def _measure(self, batch: Sequence[Job], started: float, ended: float) -> None:
        each_s = (ended - started) / len(batch)
        ENGINE_BUSY.labels(batch[0].engine.id).inc(ended - started)
        for job in batch:
            job.effort.decoded_s += each_s
        self._decode_s += _SMOOTHING * (each_s - self._decode_s)
        if batch[0].kind is Kind.LOOK:
            known_s = self._look_s[batch[0].engine.id]
            self._look_s[batch[0].engine.id] = known_s + _SMOOTHING * (each_s - known_s)
            waited_s = max(started - job.asked for job in batch)
            self._look_wait_s += _SMOOTHING * (waited_s - self._look_wait_s)


class Seat:
    """A live session's place with the scheduler: its finals, and one look at a time."""

    def __init__(self, scheduler: Scheduler, engine: Engine, late_s: float) -> None:
        self._scheduler = scheduler
        self.engine = engine
        self._late_s = late_s
        self._look: Job | None = None
        self.speaking = False

    @property
    def cadence_s(self) -> float:
        """Return how many seconds apart looks should be now."""
        return self._scheduler._cadence_s(self.engine)

    @property
    def is_free(self) -> bool:
        """Return whether what is asked for now is decoded at once."""
        return self._scheduler._idle > len(self._scheduler._queue)

    async def final(self, utterance: Utterance) -> Hypothesis:
        """Return what the engine hears in a whole chunk."""
        scheduler = self._scheduler
        return await scheduler._answered(scheduler._ask(self.engine, Kind.FINAL, utterance, self._late_s))

    async def look(self, utterance: Utterance) -> Hypothesis | None:
        """Return what the engine hears in a chunk so far; None when the look was withdrawn or there is no room for it.

        A session has at most one; while it waits it can be renewed. Raises EngineLostError.
        """
        self.speaking = True
        try:
            self._scheduler.check_room()
        except SttError:
            return None
        self._look = self._scheduler._ask(self.engine, Kind.LOOK, utterance, self._late_s)
        try:
            return await self._look.answer
        except SttError as error:
            if error.reason is not Reason.OVERLOADED:
                raise
            return None
        finally:
            self._scheduler._queue.drop(self._look)
            self._look = None

    def renew(self, utterance: Utterance) -> bool:
        """Let a look that still waits hear this instead, in its old place; return whether one waited."""
        if self._look is None or self._look not in self._scheduler._queue:
            return False
        self._look.utterance = utterance
        return True

    def withdraw(self) -> None:
        """Drop a look that still waits: its chunk is whole."""
        self.speaking = False
        if self._look is not None and self._scheduler._queue.drop(self._look):
            self._look.answer.set_result(None)


def _context(batch: Sequence[Job]) -> Context:
    """Return a context in which log lines name the requests whose utterances are decoded: threads inherit none."""
    context = copy_context()
    request_ids = ", ".join(dict.fromkeys(job.effort.request_id for job in batch))
    context.run(structlog.contextvars.bind_contextvars, request_id=request_ids)
    return context
