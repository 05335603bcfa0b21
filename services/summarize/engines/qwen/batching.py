"""Many prompts at once through one model: transformers' continuous batching, for asyncio, and its recovery.

An answer is begun only when all that is under way can come to its full length. Where the cache overflows, the manager
puts answers off and takes no others until one is finished; if all of them were cancelled it would wait for ever.

The manager answers in a thread of its own. An exception there, such as memory that ran out, ends that thread and all
that was under way in it, and does not say whose fault it was. So a new one is started, and what was lost is run again
from where it was, each prompt alone: who fails alone is told so, and the others are answered after a pause.
"""

import asyncio
import itertools
import threading
import traceback
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import ParamSpec

import structlog
import torch
from transformers.generation.continuous_batching import ContinuousBatchingManager
from transformers.generation.continuous_batching.requests import GenerationOutput

from services.common.errors import Reason, SttError
from services.common.tasks import in_background
from services.summarize.engines.qwen.sizing import PAGE_TOKENS

_RETRY_AFTER_S = 30.0
_STOP_S = 10.0
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

    def __init__(self, make: Callable[[], ContinuousBatchingManager], max_batch: int, pages: int) -> None:
        """Take managers from `make`, one after the other; it is called in threads.

        At most `max_batch` answers are under way, which with their prompts may come to so many `pages` of the cache.
        """
        self._make = make
        self._max_batch = max_batch
        self._pages = pages
        self._loop = asyncio.get_running_loop()
        self._life: _Life | None = None
        self._waiting: deque[_Answer] = deque()
        self._suspects: deque[_Answer] = deque()
        self._is_one_alone = False
        self._is_closed = False
        self._names = map(str, itertools.count())

    @property
    def under_way(self) -> int:
        """How many prompts the manager has."""
        return len(self._life.answers) if self._life is not None else 0

    async def answer(self, prompt: Sequence[int], max_tokens: int) -> AsyncGenerator[list[int], None]:
        """Yield the tokens of the answer as they come, at most `max_tokens`, the one that ends it among them.

        Closing this, or cancelling who reads it, ends the work within a step. Raises SttError (OVERLOADED, INTERNAL).
        """
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
        life.answers[name] = answer
        return True

    def _forget(self, answer: _Answer) -> None:
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
        life.answers.pop(name, None)
        self._go_on()

    def _deliver(self, life: _Life, output: GenerationOutput) -> None:
        answer = life.answers.get(output.request_id)
        if answer is None or output.error is not None:  # forgotten, or about to be lost with its life
            return
        if new := output.generated_tokens[len(answer.said) - answer.resumed_at :]:
            answer.said += new
            answer.tokens.put_nowait(new)
        if output.is_finished():
            del life.answers[output.request_id]
            answer.tokens.put_nowait(None)
            self._go_on()

    def _died(self, life: _Life, why: str, trace: str, error: SttError) -> None:
        self._life = None
        lost = list(life.answers.values())
        if self._is_closed:
            error = SttError(Reason.SHUTTING_DOWN, "The service is shutting down.", retry_after_s=_RETRY_AFTER_S)
        else:
            _log.warning("generation ended", why=why, under_way=len(lost), alone=self._is_one_alone, exception=trace)
        if self._is_closed or not life.is_born:
            guilty = [*lost, *self._waiting, *self._suspects]
            self._waiting.clear()
            self._suspects.clear()
        elif self._is_one_alone:
            guilty = lost
        else:
            guilty = []
            self._suspects += lost
        for answer in guilty:
            answer.tokens.put_nowait(error)
        life.over.set()
        self._go_on()

    # What follows runs in the thread of one life.

    def _live(self, life: _Life) -> None:
        """Make a manager and pass on what it says until it ends."""
        cause, trace = self._run(life)
        self._tell(self._died, life, f"{type(cause).__name__}: {cause}", trace, _explain(cause))

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
        trace = ""
        if cause is not None:
            trace = "".join(traceback.format_exception(cause))
            cause.__traceback__ = None  # its frames hold that memory
        life.end()
        return cause, trace

    def _drop(self, life: _Life, manager: ContinuousBatchingManager, name: str) -> None:
        """Wait until a cancelled suspect cannot be what a manager dies of: it is dropped between two steps."""
        with suppress(RuntimeError), manager.pause():  # or it has ended
            pass
        self._tell(self._dropped, life, name)

    def _tell(self, what: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is left who would want to know
            self._loop.call_soon_threadsafe(partial(what, *args, **kwargs))


def _explain(cause: Exception | None) -> SttError:
    is_memory = isinstance(cause, MemoryError | torch.OutOfMemoryError) or any(
        words in str(cause).lower() for words in _OUT_OF_MEMORY
    )
    if is_memory:
        return SttError(
            Reason.OVERLOADED, "There is not enough memory for a summary now.", retry_after_s=_RETRY_AFTER_S
        )
    return SttError(Reason.INTERNAL, "The summary could not be made.")
