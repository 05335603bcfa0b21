"""The whole house as a newcomer starts it, for clients that were written by others and are used as they are."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge.media.conftest import encode, speech
from tests.system.stack import NAMES, Stack, free_loopback_ports

__all__ = ["encode", "speech"]  # fixtures of the decoder's tests that this folder shares

ASSETS = Path(__file__).parents[1] / "assets"


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """All four programs; yields the edge's URL."""
    stack = Stack(free_loopback_ports(len(NAMES)), tmp_path_factory.mktemp("contract") / "log")
    try:
        stack.wait_ready()
        yield stack.url
    finally:
        stack.end()
