"""Keeps models loaded: some from the start, others when they are first asked for, as many as there is memory for.

What is not needed makes room for what is asked for. How files come here is `store`'s business, how an engine is made of
them `loader`'s.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import structlog

from services.asr.engine import Engine, EngineLostError
from services.asr.models.catalog import Model
from services.asr.models.choice import Choice, check, choose, choose_instead
from services.asr.scheduler import Scheduler
from services.common.errors import Reason, SttError

_MAX_RETRY_S = 300.0
_SOON_S = 5.0

_log = structlog.get_logger(__name__)


class Loader(Protocol):
    """Makes engines; errors are OSError, ValueError, RuntimeError or MemoryError with a reason to be logged."""

    async def fetch(self, model: Model) -> None:
        """Bring the model's files here; nothing to do where they are. Cancelled, it can go on another time."""

    def is_here(self, model: Model) -> bool:
        """Return whether its files are here."""

    def need_mib(self, model: Model) -> float:
        """Return the memory it takes once it is loaded; its files are here."""

    def free_mib(self) -> float:
        """Return the memory that is left for models."""

    def load(self, model: Model) -> Engine:
        """Load it; blocks."""

    def scheduler(self, model: Model) -> Scheduler:
        """Return who shares the device that it runs on."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be loaded: `max_models` at once, in `memory_mib` together (0: what there is).

    What failed is tried again after `retry_s`, then after twice as long, and so on.
    """

    max_models: int
    memory_mib: float
    retry_s: float


@dataclass(frozen=True, slots=True)
class Use:
    """A loaded model for one request."""

    choice: Choice
    engine: Engine
    scheduler: Scheduler


class _Slot:
    """What is known of one model."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.engine: Engine | None = None
        self.memory_mib = 0.0
        self.users = 0
        self.used_at = 0.0
        self.loading: asyncio.Task[None] | None = None
        self.doing = "loaded"
        self.lost = asyncio.Event()
        self.failure: SttError | None = None
        self.failures = 0
        self.retry_at = 0.0


class Keeper:
    """The models of one service; use as an async context manager.

    `models` are all that may be named. Of them `at_start` are loaded, and loaded again whenever they fail; `on_demand`
    when they are asked for. `fallback`, one of `at_start`, answers for what is not loaded; empty: nothing does.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        loader: Loader,
        limits: Limits,
        *,
        at_start: Sequence[str],
        on_demand: Sequence[str],
        fallback: str,
    ) -> None:
        self.models = models
        self._loader = loader
        self._limits = limits
        self._at_start = tuple(dict.fromkeys(at_start))
        self._loadable = {*at_start, *on_demand}
        self._fallback = fallback
        self._slots = {model: _Slot(models[model]) for model in self._loadable}
        self._one_load = asyncio.Lock()
        self._keeping: list[asyncio.Task[None]] = []
        self._now = asyncio.get_running_loop().time

    async def __aenter__(self) -> "Keeper":
        """Load what is loaded from the start; what has to be fetched first comes later."""
        here = [slot for slot in map(self._slots.__getitem__, self._at_start) if self._loader.is_here(slot.model)]
        await asyncio.gather(*(self._begin(slot) for slot in here))
        self._keeping = [asyncio.create_task(self._keep(self._slots[model])) for model in self._at_start]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Stop loading, and let go of all models."""
        tasks = [*self._keeping, *(slot.loading for slot in self._slots.values() if slot.loading)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for slot in self._slots.values():
            slot.engine = None

    def available(self, model: str) -> bool:
        """Return whether a request that names `model` is answered by it now."""
        return model in self._slots and self._slots[model].engine is not None

    @asynccontextmanager
    async def use(self, model: str, language: str, *, wait_s: float) -> AsyncIterator[Use]:
        """Give what answers a request for `model` and `language` (a code, or "auto", or empty for that).

        What is being loaded is waited for so long. While it is used, it stays loaded.
        Raises SttError: INVALID_REQUEST, UNKNOWN_MODEL, UNSUPPORTED_LANGUAGE, MODEL_UNAVAILABLE, LANGUAGE_UNAVAILABLE.
        """
        asked = check(self.models, model, language)
        choice = choose(asked, language)
        try:
            slot = await self._loaded(asked, wait_s)
        except SttError:
            if self._fallback in ("", model):
                raise
            instead = self.models[self._fallback]
            choice = choose_instead(instead, asked, language)
            slot = await self._loaded(instead, wait_s)
        engine = slot.engine
        assert engine is not None
        slot.users += 1
        try:
            yield Use(choice, engine, self._loader.scheduler(slot.model))
        except EngineLostError:
            if slot.engine is engine:
                slot.engine = None
                self._fail(slot, "stopped working", EngineLostError(slot.model.id))
                slot.lost.set()
            raise
        finally:
            slot.users -= 1
            slot.used_at = self._now()

    async def _loaded(self, model: Model, wait_s: float) -> _Slot:
        """Return the model's slot when it is loaded; SttError (MODEL_UNAVAILABLE) when it is not in time."""
        slot = self._slots.get(model.id)
        if slot is None:
            message = f"The model {model.id} is not loaded here."
            raise SttError(Reason.MODEL_UNAVAILABLE, message, retry_after_s=_MAX_RETRY_S)
        if slot.engine is None and (slot.loading or self._now() >= slot.retry_at):
            # All who ask for it meanwhile wait for the same loading, and none of them ends it by leaving.
            await asyncio.wait({self._begin(slot)}, timeout=wait_s)
        if slot.engine is not None:
            return slot
        if slot.loading is not None:
            message = f"The model {model.id} is being {slot.doing}; try again soon."
            raise SttError(Reason.MODEL_UNAVAILABLE, message, retry_after_s=_SOON_S)
        assert slot.failure is not None
        left_s = max(1.0, slot.retry_at - self._now())
        raise SttError(slot.failure.reason, slot.failure.message, retry_after_s=left_s)

    async def _keep(self, slot: _Slot) -> None:
        """Have a model loaded for as long as the service runs."""
        while True:
            while slot.engine is None:
                await asyncio.sleep(slot.retry_at - self._now())
                await asyncio.wait({self._begin(slot)})
            slot.lost.clear()
            await slot.lost.wait()

    def _begin(self, slot: _Slot) -> "asyncio.Task[None]":
        if slot.loading is None:
            slot.loading = asyncio.create_task(self._load(slot))
        return slot.loading

    async def _load(self, slot: _Slot) -> None:
        model = slot.model
        began = self._now()
        try:
            if not self._loader.is_here(model):
                slot.doing = "downloaded"
                _log.info("downloading", model=model.id)
                await self._loader.fetch(model)
            slot.doing = "loaded"
            async with self._one_load:
                slot.memory_mib = self._loader.need_mib(model)
                self._make_room(slot)
                slot.engine = await asyncio.to_thread(self._loader.load, model)
            slot.used_at = self._now()
            slot.failure, slot.failures = None, 0
            _log.info("model loaded", model=model.id, seconds=round(self._now() - began, 1))
        except SttError as error:
            self._fail(slot, error.message, error)
        except (OSError, ValueError, RuntimeError, MemoryError) as error:
            message = f"The model {model.id} could not be {slot.doing}; it will be tried again."
            self._fail(slot, str(error), SttError(Reason.MODEL_UNAVAILABLE, message, retry_after_s=_SOON_S))
        finally:
            slot.loading = None

    def _fail(self, slot: _Slot, why: str, failure: SttError) -> None:
        delay_s = min(_MAX_RETRY_S, self._limits.retry_s * 2**slot.failures)
        slot.failures += 1
        slot.failure, slot.retry_at = failure, self._now() + delay_s
        _log.warning("model not available", model=slot.model.id, why=why, retry_in_s=delay_s)

    def _make_room(self, slot: _Slot) -> None:
        """Unload what nobody uses until `slot` fits, the longest unused first; SttError where that is not enough."""
        idle = [each for each in self._slots.values() if each.engine is not None and not each.users]
        idle = [each for each in idle if each.model.id not in self._at_start]
        for each in [None, *sorted(idle, key=lambda each: each.used_at)]:
            if each is not None:
                _log.info("unloading", model=each.model.id, to_make_room_for=slot.model.id)
                each.engine = None
            if self._fits(slot):
                return
        raise SttError(
            Reason.MODEL_UNAVAILABLE,
            f"There is no room for the model {slot.model.id} beside those that are being used.",
            retry_after_s=_SOON_S,
        )

    def _fits(self, slot: _Slot) -> bool:
        others = [each for each in self._slots.values() if each.engine is not None]
        together_mib = slot.memory_mib + sum(each.memory_mib for each in others)
        if len(others) >= self._limits.max_models or together_mib > (self._limits.memory_mib or float("inf")):
            return False
        return slot.memory_mib <= self._loader.free_mib()
