"""Houses to use and houses to break."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.system.stack import NAMES, Stack, free_loopback_ports


@pytest.fixture
def free_ports() -> list[int]:
    """Ports for the four programs."""
    return free_loopback_ports(len(NAMES))


def started(ports: list[int], folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Stack]:
    stack = Stack(ports, folder, settings)
    try:
        stack.wait_ready()
        yield stack
    finally:
        stack.end()


@pytest.fixture
def stack(free_ports: list[int], tmp_path: Path) -> Iterator[Stack]:
    """A house that the test may break."""
    yield from started(free_ports, tmp_path)


@pytest.fixture(scope="module")
def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A house that is only used, in a folder whose name a shell must not take apart."""
    yield from started(free_loopback_ports(len(NAMES)), tmp_path_factory.mktemp("a newcomer's $HOME"))
