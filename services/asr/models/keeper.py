"""Keeps models loaded: some from the start, others when they are first asked for, as many as there is memory for.

What is not needed makes room for what is asked for. How files come here is `store`'s business, how an engine is made of
them `loader`'s.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import structlog

from services.asr.engine import Engine, EngineLostError, Options
from services.asr.models.catalog import Model
from services.asr.models.choice import DEFAULT, Choice, check, choose, language_unavailable, preference, suits
from services.asr.scheduler import Scheduler
from services.common.errors import Reason, SttError
from services.common.tasks import in_background

_MAX_RETRY_S = 300.0
_SOON_S = 5.0
# A model that stopped working and then could not be loaded twice is not loaded again by this process.
_HOPELESS_FAILURES = 3

_log = structlog.get_logger(__name__)


class Loader(Protocol):
    """Makes engines; an exception of any kind says why it cannot. What is no coroutine may read files, and block."""

    async def fetch(self, model: Model) -> None:
        """Bring the model's files here; nothing to do where they are. Cancelled, it can go on another time."""

    def is_here(self, model: Model) -> bool:
        """Return whether its files are here."""

    def need_mib(self, model: Model) -> float:
        """Return the memory it takes once it is loaded; its files are here."""

    def free_mib(self) -> float:
        """Return the memory that is left for models."""

    def load(self, model: Model) -> Engine:
        """Load it."""

    def unload(self, engines: list[Engine | None]) -> None:
        """Empty `engines`, the last that holds them, and give the memory back."""

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


class _NoRoomError(Exception):
    """There is no room for a model beside those that are used."""


class _Slot:
    """What is known of one model; `users` are those who use it or wait for it."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.engine: Engine | None = None
        self.memory_mib = 0.0
        self.users = 0
        self.used_at = 0.0
        self.loading: asyncio.Task[None] | None = None
        self.doing = "loaded"
        self.lost = asyncio.Event()
        self.was_lost = False
        self.failure = ""
        self.failures = 0
        self.retry_at = 0.0


class Keeper:
    """The models of one service; use as an async context manager.

    `models` are all that may be named. Of them `at_start` are loaded, and loaded again whenever they fail; `on_demand`
    when they are asked for. `default` answers where no model is named, `fallbacks` for what is not loaded: the first of
    them that can, and all are among `at_start`.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        loader: Loader,
        limits: Limits,
        *,
        at_start: Sequence[str],
        on_demand: Sequence[str],
        default: Sequence[str],
        fallbacks: Sequence[str],
    ) -> None:
        self.models = models
        self._loader = loader
        self._limits = limits
        self._at_start = tuple(dict.fromkeys(at_start))
        self._default = tuple(default)
        self._fallbacks = tuple(fallbacks)
        self._slots = {model: _Slot(models[model]) for model in (*at_start, *on_demand)}
        self._one_load = asyncio.Lock()
        self._keeping: list[asyncio.Task[None]] = []
        self._now = asyncio.get_running_loop().time

    async def __aenter__(self) -> "Keeper":
        """Load what is loaded from the start; what has to be fetched first comes later."""
        slots = [self._slots[model] for model in self._at_start]
        here = [slot for slot in slots if await in_background(self._loader.is_here, slot.model)]
        await asyncio.gather(*(self._begin(slot) for slot in here))
        self._keeping = [asyncio.create_task(self._keep(slot)) for slot in slots]
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

    @property
    def is_ready(self) -> bool:
        """Whether a model that is to be there from the start is there; true where there is no such."""
        return not self._at_start or any(map(self.available, self._at_start))

    @property
    def is_beyond_repair(self) -> bool:
        """Whether a model that was loaded stopped working and cannot be loaded any more, as when CUDA is lost."""
        return any(slot.was_lost and slot.failures >= _HOPELESS_FAILURES for slot in self._slots.values())

    @asynccontextmanager
    async def use(self, model: str, options: Options, *, live: bool, wait_s: float) -> AsyncIterator[Use]:
        """Give what answers a request for `model`, or for any where it is empty, with such options.

        What is being loaded is waited for so long. While it is used, it stays loaded.
        Raises SttError: INVALID_REQUEST, UNKNOWN_MODEL, UNSUPPORTED_LANGUAGE, MODEL_UNAVAILABLE, LANGUAGE_UNAVAILABLE.
        """
        async with AsyncExitStack() as stack:
            slot, choice = await self._first_loaded(stack, model, options, live=live, wait_s=wait_s)
            engine = slot.engine
            assert engine is not None
            try:
                yield Use(choice, engine, self._loader.scheduler(slot.model))
            except EngineLostError as error:
                if slot.engine is engine:
                    slot.engine = None
                    slot.was_lost = True
                    self._fail(slot, error)
                    slot.lost.set()
                raise

    async def _first_loaded(
        self, stack: AsyncExitStack, model: str, options: Options, *, live: bool, wait_s: float
    ) -> tuple[_Slot, Choice]:
        """Enter the use of the first model that can answer; see `use`."""
        named = check(self.models, model, options)
        asked = named or self.models[DEFAULT]
        first = [asked] if named or asked.id in self._slots else []
        others: dict[str, Model] = {}
        # What is loaded when somebody asks for it answers at last, where nothing is named.
        for group in (() if named else self._default, self._fallbacks, () if named else self._slots):
            models = [self.models[each] for each in group]
            models.sort(key=lambda each: preference(each, options, live_on_cpu=live and self._is_on_cpu(each)))
            others |= {each.id: each for each in models}
        able = [each for each in others.values() if each is not asked and suits(each, options)]
        # What is not loaded now is waited for only where nothing that finds out the language is.
        able.sort(key=lambda each: (preference(each, options, live_on_cpu=False), not self.available(each.id)))
        give_up_at = self._now() + wait_s
        failure: SttError | None = None
        for each in (*(each for each in first if suits(each, options)), *able):
            try:
                slot = await stack.enter_async_context(self._loaded(each, max(0.0, give_up_at - self._now())))
            except SttError as error:
                failure = failure or error
            else:
                is_instead = each is not asked and suits(asked, options)
                return slot, choose(each, options, asked.id if is_instead else "")
        if others and not able and asked.id not in self._slots:
            raise language_unavailable(options, tuple(others.values()))
        raise failure or language_unavailable(options, tuple(others.values()))

    def _is_on_cpu(self, model: Model) -> bool:
        return self._loader.scheduler(model).device == "cpu"

    @asynccontextmanager
    async def _loaded(self, model: Model, wait_s: float) -> AsyncIterator[_Slot]:
        """Give the model's slot, loaded; SttError (MODEL_UNAVAILABLE) when it is not in time.

        Who waits for a model counts as using it, so that it is there still when his turn comes.
        """
        slot = self._slots.get(model.id)
        if slot is None:
            message = f"The model {model.id} is not loaded here."
            raise SttError(Reason.MODEL_UNAVAILABLE, message, retry_after_s=_MAX_RETRY_S)
        slot.users += 1
        try:
            if slot.engine is None and (slot.loading or self._now() >= slot.retry_at):
                # All who ask for it meanwhile wait for the same loading, and none of them ends it by leaving.
                await asyncio.wait({self._begin(slot)}, timeout=wait_s)
            if slot.engine is None:
                raise self._unavailable(slot)
            yield slot
        finally:
            slot.users -= 1
            slot.used_at = self._now()

    def _unavailable(self, slot: _Slot) -> SttError:
        if slot.loading is not None:
            message = f"The model {slot.model.id} is being {slot.doing}; try again soon."
            return SttError(Reason.MODEL_UNAVAILABLE, message, retry_after_s=_SOON_S)
        left_s = max(1.0, slot.retry_at - self._now())
        return SttError(Reason.MODEL_UNAVAILABLE, slot.failure, retry_after_s=left_s)

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
            if not await in_background(self._loader.is_here, model):
                slot.doing = "downloaded"
                _log.info("downloading", model=model.id)
                await self._loader.fetch(model)
            slot.doing = "loaded"
            async with self._one_load:
                slot.memory_mib = await in_background(self._loader.need_mib, model)
                await self._make_room(slot)
                slot.engine = await in_background(self._loader.load, model)
            slot.used_at = self._now()
            slot.failures = 0
            slot.was_lost = False
            _log.info("model loaded", model=model.id, seconds=round(self._now() - began, 1))
        except _NoRoomError as error:
            if slot.was_lost and not self._taking_memory():
                # It had room before, and nobody else is there: a lost GPU does not give back what it held.
                self._fail(slot, error)
                return
            # It is the others' fault, and may be over at any moment: whoever asks finds out.
            slot.failure, slot.retry_at = str(error), self._now() + self._limits.retry_s
            _log.warning("model not loaded", model=model.id, why=slot.failure)
        except Exception as error:  # of the hub, of three libraries and of a GPU; others must go on being served
            self._fail(slot, error)
        finally:
            slot.loading = None

    def _fail(self, slot: _Slot, error: Exception) -> None:
        delay_s = min(_MAX_RETRY_S, self._limits.retry_s * 2**slot.failures)
        slot.failures += 1
        slot.retry_at = self._now() + delay_s
        what = "stopped working" if isinstance(error, EngineLostError) else f"could not be {slot.doing}"
        slot.failure = f"The model {slot.model.id} {what}; it will be tried again."
        cause = error.__cause__ or error
        why = str(cause) or type(cause).__name__
        _log.warning("model not available", model=slot.model.id, why=why, retry_in_s=delay_s)

    async def _make_room(self, slot: _Slot) -> None:
        """Unload what nobody uses until `slot` fits, the longest unused first. Raises _NoRoomError."""
        loaded = self._taking_memory()
        idle = [each for each in loaded if not each.users and each.model.id not in self._at_start]
        leaving = sorted(idle, key=lambda each: each.used_at)
        free_mib = self._loader.free_mib()
        # Nobody leaves for what will not fit all the same.
        if not self._fits(slot, [each for each in loaded if each not in idle], free_mib + _memory_mib(idle)):
            raise _NoRoomError(f"There is no room for the model {slot.model.id} beside those that are in use.")
        while not self._fits(slot, loaded, free_mib):
            if not leaving:
                raise _NoRoomError(f"There is no room for the model {slot.model.id}, though others have left.")
            each = leaving.pop(0)
            _log.info("unloading", model=each.model.id, to_make_room_for=slot.model.id)
            loaded.remove(each)
            engines = [each.engine]
            each.engine = None
            await in_background(self._loader.unload, engines)
            free_mib = self._loader.free_mib()

    def _taking_memory(self) -> list[_Slot]:
        """Return the slots of loaded models that count in what there is room for."""
        return [each for each in self._slots.values() if each.engine is not None and not each.model.is_embedded]

    def _fits(self, slot: _Slot, others: Sequence[_Slot], free_mib: float) -> bool:
        """Return whether settings and memory allow for `slot` beside `others`."""
        if slot.model.is_embedded:
            return True
        limits = self._limits
        together_mib = slot.memory_mib + _memory_mib(others)
        is_allowed = len(others) < limits.max_models and together_mib <= (limits.memory_mib or float("inf"))
        return is_allowed and slot.memory_mib <= free_mib


def _memory_mib(slots: Sequence[_Slot]) -> float:
    return sum(slot.memory_mib for slot in slots)
