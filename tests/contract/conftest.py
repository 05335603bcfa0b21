"""The whole house as a newcomer starts it, for clients that were written by others and are used as they are."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge.media.conftest import encode, speech
from tests.system.stack import NAMES, Stack, free_loopback_ports

__all__ = ["encode", "speech"]  # fixtures of the decoder's tests that this folder shares

ASSETS = Path(__file__).parents[1] / "assets"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All four programs and their store."""
    stack = Stack(free_loopback_ports(len(NAMES)), tmp_path_factory.mktemp("contract"))
    try:
        stack.wait_ready()
        yield stack
    finally:
        stack.end()


@pytest.fixture(scope="session")
def house(stack: Stack) -> str:
    """The edge's URL."""
    return stack.url


@pytest.fixture(scope="session")
def key(stack: Stack) -> str:
    """A key of a paid account."""
    return stack.development_key()
