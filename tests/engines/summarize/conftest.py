"""What the tests of the Qwen engine share."""

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers.generation.continuous_batching import ContinuousBatchingManager

from services.summarize.engines.qwen.batching import Batches
from services.summarize.engines.qwen.engine import Answering, QwenEngine
from services.summarize.engines.qwen.files import MODEL
from services.summarize.engines.qwen.loading import Model, load
from services.summarize.engines.qwen.running import Running
from tests.models.qwen import TINY, save
from tests.summarize.client import Client, serving

MAX_BATCH = 8


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Several would wait for each other wherever cores are busy; on a model this small they gain nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def little_garbage() -> Iterator[None]:
    """A manager that ends collects garbage thrice, which with all that is imported takes a second."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as MODEL_DIR names it."""
    folder = tmp_path_factory.mktemp("models")
    save(folder / MODEL)
    return folder


@pytest.fixture(scope="session")
def model(model_dir: Path) -> Model:
    """The tiny model, loaded; in 32 bits, so that what it says does not hang on what it is computed with."""
    return load(model_dir / MODEL, Running("cpu", "float32", MAX_BATCH, 4_000))


@pytest.fixture(scope="session")
def terse_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """One whose answers are some twenty tokens long."""
    folder = save(tmp_path_factory.mktemp("terse"), replace(TINY, layers=1), ends_every=20)
    return load(folder, Running("cpu", "float32", 4, 4_000))


@pytest.fixture
async def batches(model: Model) -> AsyncIterator[Batches]:
    made = batches_of(model)
    yield made
    await made.aclose()


@pytest.fixture(scope="session")
def readers() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


def batches_of(model: Model, make: Callable[[], ContinuousBatchingManager] | None = None) -> Batches:
    return Batches(make or model.manager, model.max_batch, model.sizes.pages)


def engine_of(model: Model, answering: Answering, readers: Executor, max_input_tokens: int = 5_000) -> QwenEngine:
    sizes = replace(model.sizes, max_input_tokens=max_input_tokens)
    return QwenEngine(model.tokenizer, answering, readers, model.ends, sizes, model.max_batch // 2)


class Watched:
    """Passes prompts on, remembers them, and tells when nothing is under way."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self.prompts: list[list[int]] = []
        self.under_way = self.most = 0
        self.idle = asyncio.Event()

    @property
    def is_lost(self) -> bool:
        return self._batches.is_lost

    async def answer(self, prompt: Sequence[int], max_tokens: int) -> AsyncGenerator[list[int], None]:
        self.prompts.append(list(prompt))
        self.idle.clear()
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            async with aclosing(self._batches.answer(prompt, max_tokens)) as answer:
                async for tokens in answer:
                    yield tokens
        finally:
            self.under_way -= 1
            if not self.under_way:
                self.idle.set()


@pytest.fixture
def watched(batches: Batches) -> Watched:
    return Watched(batches)


@pytest.fixture
async def client(model: Model, watched: Watched, readers: Executor) -> AsyncIterator[Client]:
    """A caller of a real server with the real engine, which reads 5,000 tokens in one pass."""
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(serving(engine_of(model, watched, readers), 64))


@pytest.fixture
async def terse_batches(terse_model: Model) -> AsyncIterator[Batches]:
    made = batches_of(terse_model)
    yield made
    await made.aclose()


@pytest.fixture
def terse_watched(terse_batches: Batches) -> Watched:
    return Watched(terse_batches)


@pytest.fixture
async def terse_client(terse_model: Model, terse_watched: Watched, readers: Executor) -> AsyncIterator[Client]:
    """The same with the terse model, which reads 1,000 tokens in one pass."""
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(serving(engine_of(terse_model, terse_watched, readers, 1_000), 64))
