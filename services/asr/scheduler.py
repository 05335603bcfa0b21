"""Shares the engine's workers among all requests.

First come, first served, a thread for each worker. A request has only a few chunks waiting here at once, so that a
short file is not stuck behind a long one.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from services.asr.engine import Engine, Hypothesis, Utterance


class Scheduler:
    """Decodes utterances of every request on one engine; use as a context manager."""

    def __init__(self, engine: Engine) -> None:
        """Open as many workers as the engine declares."""
        self.engine = engine
        self._executor = ThreadPoolExecutor(engine.workers, "decode")

    def __enter__(self) -> "Scheduler":
        """Return itself, open."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Wait for what is being decoded and drop what waits."""
        self._executor.shutdown(cancel_futures=True)

    async def decode(self, utterance: Utterance) -> Hypothesis:
        """Return what the engine hears; cancelled while it waits, the utterance is never decoded."""
        loop = asyncio.get_running_loop()
        (hypothesis,) = await loop.run_in_executor(self._executor, self.engine.decode, [utterance])
        return hypothesis
