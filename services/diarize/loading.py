"""Have an engine that takes long to get and may not be had: found or fetched, loaded, and tried again, beside serving.

What an engine's files are and how it is loaded is told by who asks for it.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from services.common import gpu
from services.common.tasks import in_background
from services.diarize.engine import Engine

_log = structlog.get_logger(__name__)


class Loading:
    """Loads one engine; `run` it as a task.

    `fetch` brings its files here where they are not, `load` returns it and may block; what they raise as OSError
    or ValueError is a sentence. When loading failed, `works`, which may block, tells whether what it is to run on does.
    """

    def __init__(
        self,
        model_id: str,
        fetch: Callable[[], Awaitable[None]],
        load: Callable[[], Engine],
        retry_s: float,
        *,
        works: Callable[[], bool] = gpu.works,
    ) -> None:
        self.model_id = model_id
        self._fetch = fetch
        self._load = load
        self._retry_s = retry_s
        self._works = works
        self._cannot_load = False
        self._problem = f"{model_id} is being loaded."
        self.engine: Engine | None = None

    @property
    def is_lost(self) -> bool:
        """Whether there is no engine, and will be none until the program is started anew."""
        return self._cannot_load or (self.engine is not None and self.engine.is_lost)

    @property
    def problem(self) -> str:
        """Why there is no engine, a sentence."""
        return f"The device of {self.model_id} failed for good." if self.is_lost else self._problem

    async def run(self) -> None:
        """Return when the engine is loaded, or lost."""
        while self.engine is None and not self.is_lost:
            try:
                await self._fetch()
                self.engine = await in_background(self._load)
                _log.info("loaded", model=self.model_id)
            except Exception as error:  # of a hub, a disk, a GPU and many libraries: requests must go on being told
                is_said = isinstance(error, OSError | ValueError)
                why = str(error).rstrip(".") if is_said else "its files or what runs them do not work"
                self._problem = f"{self.model_id} is not loaded: {why}."
                self._cannot_load = not await in_background(self._works)
                said = {"message": str(error), "retry_s": self._retry_s, "is_lost": self._cannot_load}
                _log.warning("not loaded", model=self.model_id, **said)
                await asyncio.sleep(self._retry_s)
