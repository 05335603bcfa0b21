"""Many prompts at once through one model: transformers' continuous batching, for asyncio, and its recovery.

An answer is begun only when all that is under way can come to its full length. Where the cache overflows, the manager
puts answers off and takes no others until one is finished; if all of them were cancelled it would wait for ever.

The manager answers in a thread of its own. An exception there, such as memory that ran out, ends that thread and all
that was under way in it, and does not say whose fault it was. So a new one is started, and what was lost is run again
from where it was, each prompt alone: who fails alone is told so, and the others are answered after a pause. But where
the device failed for good, no manager would work any more, and all are told so.
"""

import asyncio
import itertools
import threading
import time
import traceback
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import ParamSpec

import structlog
import torch
from opentelemetry import trace
from transformers.generation.continuous_batching import ContinuousBatchingManager
from transformers.generation.continuous_batching.requests import GenerationOutput

from services.common import gpu
from services.common.engine_work import Wait
from services.common.errors import Reason, SttError
from services.common.service_metrics import BATCH_SIZE, ENGINE_BUSY
from services.common.tasks import in_background
from services.summarize.engines.qwen.files import MODEL
from services.summarize.engines.qwen.sizing import PAGE_TOKENS
from services.summarize.metrics import FIRST_TOKEN, TOKENS

_RETRY_AFTER_S = 30.0
_STOP_S = 10.0
_KIND = "text"
# What it is called by torch's allocators, which raise plain RuntimeErrors on a CPU.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")

P = ParamSpec("P")

_log = structlog.get_logger(__name__)


class _Answer:
    """What becomes of one prompt; `tokens` are those that were not read yet, at most as many as it may have."""

    def __init__(self, prompt: Sequence[int], max_tokens: int) -> None:
        self.prompt = prompt
        self.max_tokens = max_tokens
        self.said: list[int] = []
        self.resumed_at = 0
        self.tokens: asyncio.Queue[list[int] | SttError | None] = asyncio.Queue()
        self.wait = Wait(_KIND)
        self.came_at = time.monotonic()
        self.request_id = structlog.contextvars.get_contextvars().get("request_id")

    @property
    def pages(self) -> int:
        """How many pages of the cache it may come to."""
        return -(-(len(self.prompt) + self.max_tokens) // PAGE_TOKENS)


class _Life:
    """A manager from its start to its end, and what is under way in it, by the manager's names."""

    def __init__(self) -> None:
        self.manager: ContinuousBatchingManager | None = None
        self.answers: dict[str, _Answer] = {}
        self.is_born = False
        self.over = asyncio.Event()
        self._is_ended = False
        self._lock = threading.Lock()

    def begin(self, manager: ContinuousBatchingManager) -> None:
        """Start a manager, unless this has ended already."""
        with self._lock:
            if not self._is_ended:
                manager.start()
                self.manager, self.is_born = manager, True

    def end(self) -> None:
        """Stop the manager, whoever of two threads comes first."""
        with self._lock:
            if self.manager is not None:
                self.manager.stop(timeout=_STOP_S, hard_stop=True)
                self.manager = None
            self._is_ended = True


class Batches:
    """Answers prompts, those that come meanwhile together with those under way; close it in the end."""

    def __init__(
        self,
        make: Callable[[], ContinuousBatchingManager],
        max_batch: int,
        pages: int,
        *,
        works: Callable[[], bool] = gpu.works,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        """Take managers from `make`, one after the other; it is called in threads.

        At most `max_batch` answers are under way, which with their prompts may come to so many `pages` of the cache.
        When a manager died, `works`, called in a thread, tells whether its device still does; if not, `on_lost` is
        called.
        """
        self._make = make
        self._max_batch = max_batch
        self._pages = pages
        self._works = works
        self._on_lost = on_lost
        self.is_lost = False
        self._loop = asyncio.get_running_loop()
        self._life: _Life | None = None
        self._waiting: deque[_Answer] = deque()
        self._suspects: deque[_Answer] = deque()
        self._is_one_alone = False
        self._is_closed = False
        self._counted_at = 0.0
        self._names = map(str, itertools.count())

    @property
    def under_way(self) -> int:
        """How many prompts the manager has."""
        return len(self._life.answers) if self._life is not None else 0

    async def answer(self, prompt: Sequence[int], max_tokens: int) -> AsyncGenerator[list[int], None]:
        """Yield the tokens of the answer as they come, at most `max_tokens`, the one that ends it among them.

        Closing this, or cancelling who reads it, ends the work within a step. Raises SttError (OVERLOADED, INTERNAL,
        MODEL_UNAVAILABLE).
        """
        if self.is_lost:
            raise _lost()
        answer = _Answer(prompt, max_tokens)
        self._waiting.append(answer)
        self._go_on()
        try:
            while (tokens := await answer.tokens.get()) is not None:
                if isinstance(tokens, SttError):
                    raise tokens
                yield tokens
        finally:
            self._forget(answer)
            if answer.said:
                tokens_of = {"summarize.tokens_read": len(prompt), "summarize.tokens_written": len(answer.said)}
                trace.get_current_span().add_event("prompt answered", tokens_of)

    async def aclose(self) -> None:
        """End the manager's thread; what is under way is not answered any more."""
        self._is_closed = True
        if (life := self._life) is not None:
            await in_background(life.end)
            try:
                async with asyncio.timeout(_STOP_S):
                    await life.over.wait()
            except TimeoutError:  # a device that hangs
                self._died(life, "It did not stop.", "", _explain(None))

    def _go_on(self) -> None:
        """Give the manager what it can be given now: one suspect alone, or all that wait."""
        life = self._life
        if not self._waiting and not self._suspects:
            return
        if life is None:
            self._life = _Life()
            threading.Thread(target=self._live, args=(self._life,), name="summarize", daemon=True).start()
        elif life.manager is None:  # it begins, or has just ended
            return
        elif self._suspects:
            if not life.answers and self._begin(life, self._suspects):
                self._is_one_alone = True
        elif not (self._is_one_alone and life.answers):
            self._is_one_alone = False
            while self._waiting and self._has_room(life, self._waiting[0]) and self._begin(life, self._waiting):
                pass

    def _has_room(self, life: _Life, answer: _Answer) -> bool:
        """Return whether the answer and all that are under way can come to their full length."""
        pages = sum(each.pages for each in life.answers.values()) + answer.pages
        return len(life.answers) < self._max_batch and (pages <= self._pages or not life.answers)

    def _begin(self, life: _Life, queue: deque[_Answer]) -> bool:
        """Give the manager the first of a queue, with what was said in an earlier life; not if it is about to end."""
        manager, answer, name = life.manager, queue[0], next(self._names)
        taken = manager and manager.add_request(
            [*answer.prompt, *answer.said],
            request_id=name,
            max_new_tokens=answer.max_tokens - len(answer.said),
            streaming=True,
        )
        if taken is None:
            return False
        queue.popleft()
        answer.resumed_at = len(answer.said)
        self._count_busy()
        life.answers[name] = answer
        answer.wait.begins()
        TOKENS.labels("read").inc(len(answer.prompt) + len(answer.said))
        BATCH_SIZE.labels(_KIND).observe(len(life.answers))
        return True

    def _count_busy(self) -> None:
        """Count the time since the last call, if anything was under way; call it before that changes."""
        now = time.monotonic()
        if self.under_way:
            ENGINE_BUSY.labels(MODEL).inc(now - self._counted_at)
        self._counted_at = now

    def _forget(self, answer: _Answer) -> None:
        answer.wait.ends()
        self._count_busy()
        for queue in (self._waiting, self._suspects):
            if answer in queue:
                queue.remove(answer)
        if self._life is not None:
            answers, manager = self._life.answers, self._life.manager
            for name in [name for name, each in answers.items() if each is answer]:
                if manager is not None:
                    manager.cancel_request(name)
                if manager is not None and self._is_one_alone:
                    threading.Thread(target=self._drop, args=(self._life, manager, name), daemon=True).start()
                else:
                    del answers[name]
        self._go_on()

    def _dropped(self, life: _Life, name: str) -> None:
        self._count_busy()
        life.answers.pop(name, None)
        self._go_on()

    def _deliver(self, life: _Life, output: GenerationOutput) -> None:
        self._count_busy()
        answer = life.answers.get(output.request_id)
        if answer is None or output.error is not None:  # forgotten, or about to be lost with its life
            return
        if new := output.generated_tokens[len(answer.said) - answer.resumed_at :]:
            if not answer.said:
                FIRST_TOKEN.observe(time.monotonic() - answer.came_at)
            TOKENS.labels("written").inc(len(new))
            answer.said += new
            answer.tokens.put_nowait(new)
        if output.is_finished():
            del life.answers[output.request_id]
            answer.tokens.put_nowait(None)
            self._go_on()

    def _died(self, life: _Life, why: str, where: str, error: SttError, is_lost: bool = False) -> None:
        self._count_busy()
        self._life = None
        lost = list(life.answers.values())
        if self._is_closed:
            error = SttError(Reason.SHUTTING_DOWN, "The service is shutting down.", retry_after_s=_RETRY_AFTER_S)
        else:
            of = [each.request_id for each in lost if each.request_id]
            said = {"why": why, "under_way": len(lost), "alone": self._is_one_alone, "request_ids": of}
            _log.warning("generation ended", **said, exception=where)
        if is_lost and not self._is_closed:
            self.is_lost, error = True, _lost()
            self._on_lost()
        if self._is_closed or self.is_lost or not life.is_born:
            guilty = [*lost, *self._waiting, *self._suspects]
            self._waiting.clear()
            self._suspects.clear()
        elif self._is_one_alone:
            guilty = lost
        else:
            guilty = []
            self._suspects += lost
            for answer in lost:
                answer.wait = Wait(_KIND)
        for answer in guilty:
            answer.tokens.put_nowait(error)
        life.over.set()
        self._go_on()

    # What follows runs in the thread of one life.

    def _live(self, life: _Life) -> None:
        """Make a manager and pass on what it says until it ends."""
        cause, where = self._run(life)
        is_lost = cause is not None and not _is_memory(cause) and not self._works()
        self._tell(self._died, life, f"{type(cause).__name__}: {cause}", where, _explain(cause), is_lost)

    def _run(self, life: _Life) -> tuple[Exception | None, str]:
        """Return what a manager ended of, and where; by then its memory is given back, which the next one needs."""
        try:
            manager = self._make()
            life.begin(manager)
            self._tell(self._go_on)
            for output in manager:
                self._tell(self._deliver, life, output)
            # What it had said before it ended.
            while (output := manager.get_result(timeout=0)) is not None:
                self._tell(self._deliver, life, output)
            cause: Exception | None = manager.background_thread_status.fatal_error
        except Exception as error:  # torch and its devices raise what they like
            cause = error
        where = ""
        if cause is not None:
            where = "".join(traceback.format_exception(cause))
            cause.__traceback__ = None  # its frames hold that memory
        life.end()
        return cause, where

    def _drop(self, life: _Life, manager: ContinuousBatchingManager, name: str) -> None:
        """Wait until a cancelled suspect cannot be what a manager dies of: it is dropped between two steps."""
        with suppress(RuntimeError), manager.pause():  # or it has ended
            pass
        self._tell(self._dropped, life, name)

    def _tell(self, what: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left who would want to know
            self._loop.call_soon_threadsafe(partial(what, *args, **kwargs))


def _is_memory(cause: Exception | None) -> bool:
    return isinstance(cause, MemoryError | torch.OutOfMemoryError) or any(
        words in str(cause).lower() for words in _OUT_OF_MEMORY
    )


def _lost() -> SttError:
    message = "What writes summaries failed for good, and has to be started anew; try again later."
    return SttError(Reason.MODEL_UNAVAILABLE, message, retry_after_s=_RETRY_AFTER_S)


def _explain(cause: Exception | None) -> SttError:
    if _is_memory(cause):
        return SttError(
            Reason.OVERLOADED, "There is not enough memory for a summary now.", retry_after_s=_RETRY_AFTER_S
        )
    return SttError(Reason.INTERNAL, "The summary could not be made.")
