"""What engines do, counted: how long work waits for them, what they compute, and whether their models are there."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

import structlog

from services.common.service_metrics import (
    BATCH_SIZE,
    ENGINE_BUSY,
    ENGINE_WORKERS,
    MODEL_LOADED,
    QUEUE_LENGTH,
    QUEUE_WAIT,
)

_log = structlog.get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class Wait:
    """A piece of work that waits for an engine, counted from now until it begins or is given up."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._since = time.monotonic()
        self._is_over = False
        QUEUE_LENGTH.labels(kind).inc()

    def begins(self) -> None:
        """Count how long it has waited, unless it was given up."""
        if not self._is_over:
            QUEUE_WAIT.labels(self.kind).observe(time.monotonic() - self._since)
        self.ends()

    def ends(self) -> None:
        """Count it no more, whatever became of it; may be called again."""
        if not self._is_over:
            self._is_over = True
            QUEUE_LENGTH.labels(self.kind).dec()


@contextmanager
def computing(model: str) -> Iterator[None]:
    """Count the body as time that a worker computes with a model."""
    began = time.monotonic()
    try:
        yield
    finally:
        ENGINE_BUSY.labels(model).inc(time.monotonic() - began)


def run(
    executor: Executor, model: str, kind: str, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> asyncio.Future[R]:
    """Have a thread of `executor` do one piece of work with a model, as the loop's run_in_executor does."""
    wait = Wait(kind)

    def counted() -> R:
        wait.begins()
        BATCH_SIZE.labels(kind).observe(1)
        with computing(model):
            return work(*args, **kwargs)

    future = executor.submit(counted)
    # Of what is cancelled before it begins this is the end.
    future.add_done_callback(lambda _: wait.ends())
    return asyncio.wrap_future(future)


def wanted(model: str, asked: str) -> None:
    """Show a model as not loaded yet, on the device "cpu" or "cuda" that is `asked` for; for "auto" on the likely one.

    Which that is becomes known with what it runs on, which is loaded with the model.
    """
    likely = "cuda" if Path("/dev/nvidiactl").exists() else "cpu"
    MODEL_LOADED.labels(model, likely if asked == "auto" else asked).set(0)


def loaded(model: str, device: str, workers: int = 1) -> None:
    """Show a model as loaded on "cpu" or "cuda", where so many workers can compute with it at once."""
    with suppress(KeyError):
        MODEL_LOADED.remove(model, "cpu" if device == "cuda" else "cuda")
    MODEL_LOADED.labels(model, device).set(1)
    ENGINE_WORKERS.labels(device).inc(workers)


def lost(model: str, device: str) -> None:
    """Show, and log, that a model's device failed for good: nothing computes there any more."""
    _log.error("device lost", model=model, device=device)
    MODEL_LOADED.labels(model, device).set(0)
    ENGINE_WORKERS.labels(device).set(0)
