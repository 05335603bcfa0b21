"""Which engine summarizes: the one that was asked for or, for "auto", the best of which everything is here."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager

from services.common import engine_work
from services.summarize.engine import Engine
from services.summarize.engines.extractive.engine import MODEL as EXTRACTIVE
from services.summarize.engines.extractive.engine import ExtractiveEngine
from services.summarize.engines.qwen.files import MODEL as QWEN
from services.summarize.engines.qwen.running import Running
from services.summarize.engines.qwen.start import is_here, start
from services.summarize.keeper import KeptEngine
from services.summarize.settings import SummarizeSettings


@asynccontextmanager
async def chosen(settings: SummarizeSettings) -> AsyncIterator[Engine]:
    """Give the engine that `settings` ask for; Qwen is loaded while requests may come already."""
    async with AsyncExitStack() as stack:
        if choose(settings) == EXTRACTIVE:
            engine_work.loaded(EXTRACTIVE, "cpu", settings.workers)
            yield ExtractiveEngine(stack.enter_context(ThreadPoolExecutor(settings.workers, "summarize")))
            return
        engine_work.wanted(QWEN, settings.device)
        running = Running(settings.device, settings.dtype, settings.max_batch, settings.max_input_tokens)

        async def load() -> Engine:
            return await start(settings.model_dir, running, stack)

        kept = KeptEngine(QWEN, load, retry_s=settings.load_retry_s, wait_s=settings.load_wait_s)
        yield await stack.enter_async_context(kept)


def choose(settings: SummarizeSettings) -> str:
    """Return the id of the model that summarizes."""
    if settings.model != "auto":
        return settings.model
    return QWEN if is_here(settings.model_dir) else EXTRACTIVE
