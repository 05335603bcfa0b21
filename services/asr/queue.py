"""What waits for the workers of a device, and what of it comes next.

A segment that a live session waits for goes first, then interim looks, then recordings; but a recording's chunk that
has waited as long as it may goes ahead of looks. How it is decoded is `scheduler`'s business.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from services.asr import effort
from services.asr.effort import Effort
from services.asr.engine import Engine, Hypothesis, Utterance
from services.common.service_metrics import BATCH_SIZE, QUEUE_LENGTH, QUEUE_WAIT


class Kind(IntEnum):
    """What an utterance is decoded for, the most urgent first."""

    FINAL = 0
    LOOK = 1
    FILE = 2

    @property
    def label(self) -> str:
        """Return what metrics call it."""
        return self.name.lower()


@dataclass(eq=False, slots=True)
class Job:
    """An utterance that waits since `asked` and should not wait beyond `deadline` (the loop's clock)."""

    engine: Engine
    kind: Kind
    asked: float
    deadline: float
    utterance: Utterance
    answer: "asyncio.Future[Hypothesis | None]"
    effort: Effort = field(default_factory=effort.current)


def pick(waiting: Iterable[Job], now: float, *, files_wait: bool) -> Job | None:
    """Return the job that comes next; `files_wait` keeps recordings back."""
    may = [job for job in waiting if not (files_wait and job.kind is Kind.FILE)]
    return min(may, key=lambda job: (_rank(job, now), job.deadline), default=None)


def _rank(job: Job, now: float) -> float:
    overdue = job.kind is Kind.FILE and job.deadline <= now
    return (Kind.FINAL + Kind.LOOK) / 2 if overdue else job.kind


class Queue:
    """The jobs that wait for the workers of one device; metrics show those of all devices together."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        for kind in Kind:
            for metric in (QUEUE_LENGTH, QUEUE_WAIT, BATCH_SIZE):
                # Shown from the start on, not only once there was one.
                metric.labels(kind.label)

    def __iter__(self) -> Iterator[Job]:
        """Go through the jobs as they came."""
        return iter(self._jobs)

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._jobs)

    def kin(self, job: Job) -> list[Job]:
        """Return what waits that may share a batch with `job`, itself included, the most urgent first."""
        kin = [each for each in self._jobs if each.kind is job.kind and each.engine is job.engine]
        return sorted(kin, key=lambda each: each.deadline)

    def add(self, job: Job) -> None:
        """Let a job wait."""
        self._jobs.append(job)
        QUEUE_LENGTH.labels(job.kind.label).inc()

    def drop(self, job: Job) -> bool:
        """Let a job wait no longer; return whether it did."""
        if job not in self._jobs:
            return False
        self._jobs.remove(job)
        QUEUE_LENGTH.labels(job.kind.label).dec()
        return True

    def take(self, batch: Sequence[Job], now: float) -> None:
        """Let a batch wait no longer, since it is decoded from `now` on."""
        label = batch[0].kind.label
        BATCH_SIZE.labels(label).observe(len(batch))
        for job in batch:
            self.drop(job)
            QUEUE_WAIT.labels(label).observe(now - job.asked)
            job.effort.waited_s += now - job.asked
