"""What the tests of the Qwen engine share."""

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from services.summarize.engines.qwen.batching import Batches
from services.summarize.engines.qwen.engine import QwenEngine
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
    return load(model_dir / MODEL, Running("cpu", "float32", MAX_BATCH, 8_000))


@pytest.fixture(scope="session")
def terse_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """One whose answers are some twenty tokens long."""
    folder = save(tmp_path_factory.mktemp("terse"), replace(TINY, layers=1), ends_every=20)
    return load(folder, Running("cpu", "float32", 4, 8_000))


@pytest.fixture
async def batches(model: Model) -> AsyncIterator[Batches]:
    made = Batches(model.manager)
    yield made
    await made.aclose()


def engine_of(model: Model, answering: Any, max_input_tokens: int = 5_000) -> QwenEngine:
    return QwenEngine(model.tokenizer, answering, model.ends, model.max_tokens, max_input_tokens)


@pytest.fixture
async def client(model: Model, batches: Batches) -> AsyncIterator[Client]:
    """A caller of a real server with the real engine, which reads 5,000 tokens in one pass."""
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(serving(engine_of(model, batches), 64))


@pytest.fixture
async def terse_batches(terse_model: Model) -> AsyncIterator[Batches]:
    made = Batches(terse_model.manager)
    yield made
    await made.aclose()


@pytest.fixture
async def terse_client(terse_model: Model, terse_batches: Batches) -> AsyncIterator[Client]:
    """The same with the terse model, which reads 1,000 tokens in one pass."""
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(serving(engine_of(terse_model, terse_batches, 1_000), 64))
