"""What a request takes of the workers, for its span to tell, and its id, for the log lines of workers.

It belongs to the request's task and to those that this starts, as the span and the id do.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import structlog
from opentelemetry import trace


@dataclass(slots=True)
class Effort:
    """What one request came to: seconds its utterances waited for a worker, and seconds of workers that they took."""

    request_id: str = ""
    waited_s: float = 0.0
    decoded_s: float = 0.0


_current: ContextVar[Effort | None] = ContextVar("effort", default=None)


def current() -> Effort:
    """Return the current request's effort; outside of requests one that nobody looks at."""
    return _current.get() or Effort()


@asynccontextmanager
async def summed_up() -> AsyncIterator[None]:
    """Sum up what the body asks of the workers; the request's span tells it at the end."""
    span = trace.get_current_span()
    effort = Effort(structlog.contextvars.get_contextvars().get("request_id", ""))
    # Never taken back: the task's context goes with the task.
    _current.set(effort)
    try:
        yield
    finally:
        span.set_attribute("asr.queue_wait_s", round(effort.waited_s, 3))
        span.set_attribute("asr.decode_s", round(effort.decoded_s, 3))
