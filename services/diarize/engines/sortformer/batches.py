"""Bring chunks of several streams together for the network: whose are heard next, and in what company."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextvars import Context
from dataclasses import dataclass
from typing import Protocol

from services.common import gpu
from services.common.engine_work import Wait
from services.common.errors import Reason, SttError
from services.common.service_metrics import BATCH_SIZE
from services.diarize.engines.sortformer.chunks import Chunk, Heard

# How long a chunk waits for company.
_GATHER_S = 0.005
_RETRY_AFTER_S = 10.0


class Hears(Protocol):
    """The network."""

    def hear(self, chunks: Sequence[Chunk]) -> list[Heard]:
        """Hear chunks of one preset, all of them their streams' first ones or none; raises MemoryError."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    chunk: Chunk
    is_live: bool
    answer: "asyncio.Future[Heard]"
    wait: Wait


class Batches:
    """Hears chunks in batches of at most `max_batch`, in one thread of `executor`.

    Chunks of live sessions go first, but for one batch of recordings after each of theirs. When the network failed,
    `works`, which may block, tells whether what it runs on still does. If not, `on_lost` is called, and all who wait or
    come are told so.
    """

    def __init__(
        self,
        network: Hears,
        executor: Executor,
        max_batch: int,
        *,
        works: Callable[[], bool] = gpu.works,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._network = network
        self._executor = executor
        self._max_batch = max_batch
        self._works = works
        self._on_lost = on_lost
        self.is_lost = False
        self._waiting: list[_Job] = []
        self._was_live = False
        self._working: asyncio.Task[None] | None = None

    async def hear(self, chunk: Chunk, *, is_live: bool) -> Heard:
        """Return the answer to a chunk; cancelled while it waits, it is never heard.

        Raises SttError (OVERLOADED, MODEL_UNAVAILABLE).
        """
        job = _Job(chunk, is_live, asyncio.get_running_loop().create_future(), Wait("live" if is_live else "recording"))
        self._waiting.append(job)
        if self._working is None or self._working.done():
            # It works for all, so it is no part of the request that came first.
            self._working = asyncio.create_task(self._work(), context=Context())
        try:
            return await job.answer
        finally:
            job.wait.ends()

    async def _work(self) -> None:
        """Hear batch after batch until nobody waits."""
        while True:
            await asyncio.sleep(_GATHER_S)
            batch = self._next()
            if not batch:
                return
            if len(batch) == 1 or not await self._is_heard(batch):
                for job in batch:
                    await self._hear_alone(job)

    def _next(self) -> list[_Job]:
        """Take the longest waiting chunk, every other time a live one before others, and those that may go with it."""
        self._waiting = [job for job in self._waiting if not job.answer.done()]
        if not self._waiting:
            return []
        first = min(self._waiting, key=lambda job: job.is_live is self._was_live)
        self._was_live = first.is_live
        kin = [job for job in self._waiting if _kind(job) == _kind(first)][: self._max_batch]
        self._waiting = [job for job in self._waiting if job not in kin]
        for job in kin:
            job.wait.begins()
        return kin

    async def _is_heard(self, batch: Sequence[_Job]) -> bool:
        """Hear a batch; return whether that went well, with nothing left of what failed: it holds the memory."""
        try:
            await self._hear(batch)
        except Exception as error:  # one of them is too much, or bad: the others must not suffer
            await self._check(error)
            return False
        return True

    async def _hear(self, batch: Sequence[_Job]) -> None:
        if self.is_lost:
            raise _lost()
        loop = asyncio.get_running_loop()
        BATCH_SIZE.labels(batch[0].wait.kind).observe(len(batch))
        answers = await loop.run_in_executor(self._executor, self._network.hear, [job.chunk for job in batch])
        for job, answer in zip(batch, answers, strict=True):
            if not job.answer.done():
                job.answer.set_result(answer)

    async def _hear_alone(self, job: _Job) -> None:
        if job.answer.done():
            return
        try:
            await self._hear([job])
        except Exception as error:
            await self._check(error)
            if not job.answer.done():
                is_memory = isinstance(error, MemoryError)
                job.answer.set_exception(_lost() if self.is_lost else _out_of_memory() if is_memory else error)

    async def _check(self, error: Exception) -> None:
        """Find out, after it failed, whether the network failed for good."""
        if self.is_lost or isinstance(error, MemoryError):
            return
        if not await asyncio.get_running_loop().run_in_executor(self._executor, self._works):
            self.is_lost = True
            self._on_lost()


def _kind(job: _Job) -> tuple[object, int]:
    return job.chunk.preset, job.chunk.left


def _lost() -> SttError:
    message = "What told the speakers apart failed for good; ask again, and something else will."
    return SttError(Reason.MODEL_UNAVAILABLE, message, retry_after_s=_RETRY_AFTER_S)


def _out_of_memory() -> SttError:
    message = "There is not enough memory to tell the speakers apart now."
    return SttError(Reason.OVERLOADED, message, retry_after_s=_RETRY_AFTER_S)
