"""Accounts, keys, and an authenticator of the test store."""

from collections.abc import AsyncIterator

import pytest

from services.edge.accounts.authentication import Authenticator
from services.edge.accounts.registry import Registry
from services.edge.accounts.signing import Signer
from services.edge.metering.store import Store
from services.edge.settings import EdgeSettings
from tests.store import store, store_dir

__all__ = ["store", "store_dir"]


@pytest.fixture
async def registry(store: Store) -> Registry:
    return Registry(store)


@pytest.fixture
def signer() -> Signer:
    return Signer.in_memory()


@pytest.fixture
async def account(registry: Registry) -> str:
    """The name of a paid account."""
    return await registry.create("paid", 10)


@pytest.fixture
async def authenticator(store: Store) -> AsyncIterator[Authenticator]:
    """What an edge without an external issuer asks."""
    async with Authenticator(store, EdgeSettings()) as authenticator:
        yield authenticator
