"""A real diarization server with a small Sortformer of random weights, loaded from a .nemo file as the true one is."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.diarize import sortformers
from services.diarize.choice import Engines
from services.diarize.engines.community1 import Community1
from services.diarize.engines.networks import Networks
from services.diarize.engines.sortformer import network
from services.diarize.engines.sortformer.batches import Batches, Hears
from services.diarize.engines.sortformer.chunks import Chunk, Heard
from services.diarize.engines.sortformer.engine import Sortformer
from services.diarize.engines.sortformer.presets import PRESETS
from services.diarize.loading import Loading
from services.diarize.settings import DiarizeSettings
from tests.diarize.conftest import Pcm, Server, executor, networks, recording, requests, serving

__all__ = ["executor", "networks", "recording", "requests"]
from tests.models import sortformer

MODEL = sortformers.DEFAULT


@pytest.fixture(scope="session")
def voices(recording: Callable[[str], Pcm]) -> Pcm:
    """28 s of a dialogue and as much of a reading."""
    return np.concatenate([recording("endgame_nagg_nell.wav"), recording("two_cities.wav")[: 28 * 16_000]])


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory, voices: Pcm) -> Path:
    """A folder with the small Sortformer under the true one's name."""
    folder = tmp_path_factory.mktemp("models")
    sortformer.save(folder / f"{MODEL}.nemo", sortformer.SMALL, voices)
    return folder


@pytest.fixture(scope="session")
def loaded(model_dir: Path) -> network.Network:
    return network.load(model_dir / f"{MODEL}.nemo", "cpu", 4, 1)


@pytest.fixture
def thread() -> Iterator[Executor]:
    """The one thread that the network runs in."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@dataclass
class Watched:
    """The real network; counts who shares its batches, and can be held before the first and told to run out."""

    network: Hears
    batches: list[int] = field(default_factory=list)
    fails: Callable[[Sequence[Chunk]], bool] = lambda chunks: False
    error: Exception = field(default_factory=lambda: MemoryError("CUDA out of memory"))
    device_works: bool = True

    def hear(self, chunks: Sequence[Chunk]) -> list[Heard]:
        self.batches.append(len(chunks))
        if self.fails(chunks):
            raise self.error
        return self.network.hear(chunks)


@pytest.fixture
def watched(loaded: network.Network) -> Watched:
    return Watched(loaded)


@pytest.fixture
def serve_engines(networks: Networks, executor: Executor) -> Callable[..., Any]:
    """Start a server with the embedded engine and what is to go before it; arguments are settings."""

    @asynccontextmanager
    async def start(loading: Callable[[DiarizeSettings], Loading], **changes: Any) -> AsyncIterator[Server]:
        settings = DiarizeSettings(**({"port": 0, "grace_s": 0.0, "drain_s": 0.0, "max_sessions": 4} | changes))
        embedded = Community1(networks, executor, settings.steps_s, settings.ahead)
        engines = Engines(embedded, loading(settings), sortformers.MAX_SPEAKERS)
        async with serving(engines, settings) as server:
            yield server

    return start


@pytest.fixture
def serve_sortformer(serve_engines: Callable[..., Any], watched: Watched, thread: Executor) -> Callable[..., Any]:
    """Start a server whose Sortformer is loaded; arguments are settings."""

    def loading(settings: DiarizeSettings) -> Loading:
        presets = PRESETS[settings.latency_s], PRESETS[settings.live_latency_s]
        running = Loading(MODEL, asyncio.Event().wait, lambda: None, 1.0)  # type: ignore[arg-type, return-value]
        batches = Batches(watched, thread, settings.max_batch or 8, works=lambda: watched.device_works)
        running.engine = Sortformer(MODEL, 4, True, batches, *presets)
        return running

    return lambda **changes: serve_engines(loading, **changes)


@pytest.fixture
async def server(serve_sortformer: Callable[..., Any]) -> AsyncIterator[Server]:
    async with serve_sortformer() as running:
        yield running
