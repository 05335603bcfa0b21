"""A real Valkey for tests: the embedded store as `make run` starts it, emptied before each test that uses it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.edge.metering.store import Store, connect
from tests.embedded_store import ROOT, valkey, wait_for_store

__all__ = ["ROOT", "store", "store_dir", "valkey", "wait_for_store"]


@pytest.fixture(scope="session")
def store_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of a store that runs: the DATA_DIR of programs that are to use it."""
    folder = tmp_path_factory.mktemp("store")
    with valkey(folder):
        yield folder


@pytest.fixture
async def store(store_dir: Path) -> AsyncIterator[Store]:
    """The same store, empty."""
    async with connect("", store_dir) as client:
        await client.flushall()
        yield Store(client)
