"""One house on several hosts for all tests of a module, and clients on a host of their own."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.hosts.client import Clients, opened
from tests.hosts.house import House
from tests.hosts.network import Network


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """A network without hosts yet; where there can be none, its tests are skipped."""
    for program, package in (("ip", "iproute2"), ("dnsmasq", "dnsmasq-base")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing (Debian's {package})")
    try:
        network = Network(f"stt{os.getpid()}")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are not allowed here: {error.stderr.strip()}")
    try:
        yield network
    finally:
        network.close()


@pytest.fixture(scope="module")
def house(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The house; the tests' own sockets are a client's."""
    house = House(network, tmp_path_factory.mktemp("house"))
    house.wait_ready()
    with house.client.entered():
        yield house


@pytest.fixture
async def clients(house: House) -> AsyncIterator[Clients]:
    async with opened(house) as clients:
        yield clients
