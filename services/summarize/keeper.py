"""An engine that has to be loaded first: until it is, and whenever it cannot be, requests are told why."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Self

import structlog

from services.common import gpu
from services.common.errors import Reason, SttError
from services.common.tasks import in_background
from services.summarize.engine import Engine, Event, Style, UnavailableError

_SOON_S = 5.0
_MAX_RETRY_S = 300.0

_log = structlog.get_logger(__name__)


class KeptEngine:
    """Answers with the engine that `load` returns; use as an async context manager.

    A request waits `wait_s` for it. What failed is tried again after `retry_s`, then after twice as long, and so on.
    `load` raises UnavailableError, or anything else, of which callers are not told; then `works`, which may block,
    tells whether what the engine is to run on still does.
    """

    def __init__(
        self,
        model: str,
        load: Callable[[], Awaitable[Engine]],
        *,
        retry_s: float,
        wait_s: float,
        works: Callable[[], bool] = gpu.works,
    ) -> None:
        self._model = model
        self._load = load
        self._retry_s = retry_s
        self._wait_s = wait_s
        self._works = works
        self._cannot_load = False
        self._engine: Engine | None = None
        self._tried = asyncio.Event()
        self._failure = ""
        self._retry_at = 0.0
        self._now = asyncio.get_running_loop().time

    @property
    def model(self) -> str:
        """Name the model that answers."""
        return self._model

    @property
    def is_ready(self) -> bool:
        """Whether there is an engine that can answer."""
        return self._engine is not None and self._engine.is_ready

    @property
    def is_alive(self) -> bool:
        """Whether nothing failed that only a restart of the program mends."""
        return not self._cannot_load and (self._engine is None or self._engine.is_alive)

    async def __aenter__(self) -> Self:
        """Begin to load."""
        self._loading = asyncio.create_task(self._keep_trying())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Stop loading."""
        self._loading.cancel()
        await asyncio.wait({self._loading})

    async def summarize(self, text: str, style: Style) -> AsyncGenerator[Event, None]:
        """Yield what the engine does. Raises SttError (MODEL_UNAVAILABLE) while there is none."""
        if self._engine is None and not self._tried.is_set():
            await self._wait()
        if self._engine is None:
            raise self._unavailable()
        async with aclosing(self._engine.summarize(text, style)) as events:
            async for event in events:
                yield event

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._wait_s):
                await self._tried.wait()
        except TimeoutError:
            return

    def _unavailable(self) -> SttError:
        if not self._failure:
            message = f"The model {self._model} is being loaded; try again soon."
            return SttError(Reason.MODEL_UNAVAILABLE, message, retry_after_s=_SOON_S)
        message = f"The model {self._model} could not be loaded and will be tried again: {self._failure}"
        left_s = max(_SOON_S, self._retry_at - self._now())
        return SttError(Reason.MODEL_UNAVAILABLE, message, retry_after_s=left_s)

    async def _keep_trying(self) -> None:
        delay_s = self._retry_s
        while self._engine is None and self.is_alive:
            began = self._now()
            _log.info("model being loaded", model=self._model)
            try:
                self._engine = await self._load()
                _log.info("model loaded", model=self._model, seconds=round(self._now() - began, 1))
            except Exception as error:  # of a hub, of libraries and of a GPU; requests must go on being told
                is_said = isinstance(error, UnavailableError)
                self._failure = str(error) if is_said else "Its files or the device do not work."
                cause = error.__cause__ or error
                why = str(cause) or type(cause).__name__
                self._cannot_load = not await in_background(self._works)
                said = {"why": why, "retry_in_s": delay_s, "is_lost": self._cannot_load}
                _log.warning("model not available", model=self._model, **said)
            self._tried.set()
            if self._engine is None:
                self._retry_at = self._now() + delay_s
                await asyncio.sleep(delay_s)
                delay_s = min(_MAX_RETRY_S, 2 * delay_s)
