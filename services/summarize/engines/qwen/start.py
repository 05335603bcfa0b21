"""Has the model's files brought here, loads them beside the event loop, and lets the model say a word."""

import importlib
import importlib.util
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing
from functools import partial
from pathlib import Path

import structlog

from services.common import engine_work, hub_cache
from services.common.errors import SttError
from services.common.hub import HubError
from services.common.openmp import share_cores
from services.common.tasks import in_background
from services.summarize.engine import UnavailableError
from services.summarize.engines.qwen import files
from services.summarize.engines.qwen.engine import QwenEngine
from services.summarize.engines.qwen.running import Running

# Besides those that are imported at once: chat templates are jinja2's, psutil sizes the cache on a CPU.
_LIBRARIES = ("torch", "transformers", "jinja2", "psutil")
# Texts that are read and tokenized at once.
_READERS = 2

_log = structlog.get_logger(__name__)


def missing() -> list[str]:
    """Return the libraries that the model needs and that are not installed."""
    return [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]


def is_here(model_dir: Path | None) -> bool:
    """Return whether the model can be loaded without anything being brought here, as far as a quick look shows it.

    Of files that are here and cannot be loaded a warning says why.
    """
    folder = files.find(model_dir)
    if folder is None:
        return False
    why = f"Not installed: {', '.join(absent)}." if (absent := missing()) else files.problem(folder)
    if why is not None:
        _log.warning("model not taken", model=files.MODEL, folder=str(folder), why=why)
    return why is None


async def start(model_dir: Path | None, running: Running, stack: AsyncExitStack) -> QwenEngine:
    """Return the engine, which ends with `stack`. Raises UnavailableError where it cannot be had."""
    if absent := missing():
        raise UnavailableError(f"It needs {' and '.join(absent)}, not installed here (stt-service[summarize-qwen]).")
    folder = await _bring(model_dir)
    share_cores()
    # Importing takes seconds, too.
    loading = await in_background(importlib.import_module, "services.summarize.engines.qwen.loading")
    batching = await in_background(importlib.import_module, "services.summarize.engines.qwen.batching")
    model = await in_background(loading.load, folder, running)
    on_lost = partial(engine_work.lost, files.MODEL, model.device)
    batches = batching.Batches(model.manager, model.max_batch, model.sizes.pages, on_lost=on_lost)
    try:
        # A second token, for what prompts begin with is kept from the second step on.
        async with aclosing(batches.answer(model.tokenizer.frame("").head, 2)) as answer:
            async for _ in answer:
                pass
    except BaseException as error:
        await batches.aclose()
        if isinstance(error, SttError):
            raise UnavailableError(f"It does not work on this device: {error.message}") from error
        raise
    stack.push_async_callback(batches.aclose)
    engine_work.loaded(files.MODEL, model.device)
    readers = stack.enter_context(ThreadPoolExecutor(_READERS, "summarize"))
    return QwenEngine(model.tokenizer, batches, readers, model.ends, model.sizes, max(1, model.max_batch // 2))


async def _bring(model_dir: Path | None) -> Path:
    """Return the folder of the model's files, which come from the hub where they are not here."""
    folder = files.find(model_dir)
    given = model_dir is not None and folder == model_dir / files.MODEL
    if not given and (folder is None or files.problem(folder)):
        _log.info("model being fetched", model=files.MODEL, repository=files.REPOSITORY)
        try:
            await hub_cache.fetch(files.REPOSITORY, files.PATTERNS)
        except HubError as error:
            raise UnavailableError(str(error)) from error
        folder = hub_cache.snapshot(files.REPOSITORY)
    reason = files.problem(folder) if folder is not None else "Its files did not come."
    if reason or folder is None:
        raise UnavailableError(f"Its files are not whole: {reason}")
    return folder
