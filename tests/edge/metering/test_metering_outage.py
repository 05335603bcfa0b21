"""While the store is away: new work is refused at once, what runs is finished, and settled when the store is back."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from services.edge.metering.store import Store, connect
from tests.edge.conftest import Edge, FakeServices, StartEdge
from tests.edge.metering.conftest import Account, OpenAccount, running
from tests.store import valkey


class Keeper:
    """A store of the test's own, which can be ended and begun again."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._outer = stack
        self.begin()

    def begin(self) -> None:
        self._stack = self._outer.enter_context(ExitStack())
        self._keeper = self._stack.enter_context(valkey(self.folder))
        self.is_there = True

    def end(self) -> None:
        self._stack.close()
        self.is_there = False

    @property
    def server(self) -> psutil.Process:
        return psutil.Process(self._keeper.pid).children()[0]


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    with ExitStack() as stack:
        yield Keeper(tmp_path / "store", stack)


@pytest.fixture
async def store(keeper: Keeper) -> AsyncIterator[Store]:
    """The store of the test's own, in place of the one that tests share."""
    async with connect("", keeper.folder) as client:
        yield Store(client)


@pytest.fixture
async def edge(keeper: Keeper, fakes: FakeServices, start_edge: StartEdge) -> AsyncIterator[Edge]:
    yield await start_edge(data_dir=keeper.folder, **fakes.addresses)
    if not keeper.is_there:
        keeper.begin()  # what is left in it is looked at


@pytest.fixture
async def account(open_account: OpenAccount) -> Account:
    return await open_account(credits=10)


async def test_new_work_is_refused_at_once(edge: Edge, account: Account, keeper: Keeper, quiet: bytes) -> None:
    keeper.end()
    started_s = time.monotonic()
    refused = await edge.transcribe(quiet, account.headers)
    assert time.monotonic() - started_s < 2
    assert (refused.status, refused.json["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert int(refused.headers["Retry-After"]) > 0


async def test_a_store_that_hangs_is_not_waited_for(edge: Edge, account: Account, keeper: Keeper, quiet: bytes) -> None:
    server = keeper.server
    server.suspend()
    try:
        started_s = time.monotonic()
        refused = await edge.transcribe(quiet, account.headers)
        assert time.monotonic() - started_s < 5
        assert refused.status == 503
    finally:
        server.resume()
    assert (await edge.transcribe(quiet, account.headers)).status == 200


async def test_what_needs_no_account_is_still_answered(edge: Edge, keeper: Keeper) -> None:
    keeper.end()
    assert (await edge.request("GET", "/v1/models")).status == 200
    assert (await edge.request("GET", "/v1/languages")).status == 200
    health = await edge.request("GET", "/health")
    assert (health.status, health.json["error"]) == (503, "The account store cannot be reached.")


async def test_what_runs_is_answered_and_settled_when_the_store_is_back(
    edge: Edge, fakes: FakeServices, account: Account, keeper: Keeper, quiet: bytes
) -> None:
    request = await running(fakes.asr, edge.transcribe(quiet, account.headers))
    keeper.end()
    fakes.asr.proceed.set()
    assert (await request).status == 200
    keeper.begin()
    await account.settled(balance=9, spent=1, held=0)


async def test_after_a_restart_the_next_request_is_served(
    edge: Edge, account: Account, keeper: Keeper, quiet: bytes
) -> None:
    assert (await edge.transcribe(quiet, account.headers)).status == 200
    keeper.end()
    keeper.begin()
    assert (await edge.transcribe(quiet, account.headers)).status == 200
    await account.settled(spent=2)


async def test_a_job_that_takes_longer_than_its_lease_keeps_it(
    start_edge: StartEdge, fakes: FakeServices, account: Account, keeper: Keeper, store: Store, quiet: bytes
) -> None:
    edge = await start_edge(data_dir=keeper.folder, lease_s=0.3, **fakes.addresses)
    request = await running(fakes.asr, edge.transcribe(quiet, account.headers))
    leases = account.subject.key("leases")
    ((_, first_ms),) = await store.redis.zrange(leases, 0, -1, withscores=True)
    async with asyncio.timeout(10):
        while (await store.redis.zrange(leases, 0, -1, withscores=True))[0][1] < first_ms + 600:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    fakes.asr.proceed.set()
    assert (await request).status == 200
    await account.settled(spent=1)
