"""A Valkey Cluster behind the client of one server: each command goes to the node that has its key.

redis-py's own client of clusters asks for all slots anew, one node after another, and drops the connections to all of
them whenever a command fails: while one node is down, the accounts of the others wait as well. Here they do not.
"""

import asyncio
from contextlib import suppress
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.commands.core import AsyncScript
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, NoScriptError, RedisError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

Address = tuple[str, int]

MARK = "+cluster://"
_PORT = 6379
_LEARN_AGAIN_S = 1.0
_MOST_HOPS, _HOPS_AT_ONCE, _HOP_PAUSE_S = 20, 3, 0.05


class Cluster(Redis):
    """A client whose commands name keys of one slot; those without a key are for its `nodes`.

    A command that fails is not sent again. One that a node did not take, because its slot has another node or is being
    moved, is sent to the right one for about a second; its error is raised then.
    """

    def __init__(self, url: str, **options: Any) -> None:
        addresses, self._settings = read_url(url)
        self._options = options
        self._startup = frozenset(addresses)
        self._known: frozenset[Address] = frozenset()
        self._slots: dict[int, Address] = {}
        self._nodes: dict[Address, Redis] = {}
        self._scripts: dict[str, str] = {}
        self._learning: asyncio.Task[None] | None = None
        self._learned_s = float("-inf")
        super().__init__(connection_pool=self._pool(addresses[0]))

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the connections to all nodes."""
        if self._learning:
            self._learning.cancel()
        await asyncio.gather(*(node.aclose() for node in self._nodes.values()))
        await super().aclose(close_connection_pool)

    async def nodes(self) -> list[Redis]:
        """Return a client of each node that has slots now."""
        await self._learn()
        return [self._node(address) for address in sorted(set(self._slots.values()))]

    async def reach(self) -> float:
        """Return the share of those nodes that answer and do not take the cluster for down, 0 to 1."""
        nodes: list[Any] = await self.nodes()
        told = (node.execute_command("CLUSTER", "INFO") for node in nodes)
        states = await asyncio.gather(*told, return_exceptions=True)
        healthy = [state for state in states if isinstance(state, bytes) and b"cluster_state:ok" in state]
        return len(healthy) / len(nodes)

    def register_script(self, script: Any) -> AsyncScript:  # type: ignore[override]  # as the client's own does
        """Return what runs a script, on nodes also that do not know it yet."""
        registered = super().register_script(script)
        self._scripts[registered.sha] = script
        return registered

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command to the node of its first key and return what that replies."""
        key = args[3] if args[0] in ("EVAL", "EVALSHA") else args[1]
        slot = key_slot(key if isinstance(key, bytes) else key.encode())
        if slot not in self._slots:
            await self._learn()
        is_asking = False
        for hop in range(_MOST_HOPS):
            if hop >= _HOPS_AT_ONCE:
                await asyncio.sleep(_HOP_PAUSE_S)
            if not is_asking:
                address = self._address(slot)
            try:
                return await _send(self._node(address), is_asking, args, options)
            except NoScriptError:
                args = ("EVAL", self._scripts[args[1]], *args[2:])
            except AskError as error:
                last: RedisError = error
                address = (error.host or address[0], error.port)
                is_asking = not isinstance(error, MovedError)
                if not is_asking:
                    self._slots[slot] = address
            except TryAgainError as error:  # its slot is being moved: some of its keys are here, some there
                last, is_asking = error, False
            except (RedisConnectionError, RedisTimeoutError, ClusterDownError):
                with suppress(RedisError):
                    await self._learn(without=address)
                raise
        raise last

    def _address(self, slot: int) -> Address:
        try:
            return self._slots[slot]
        except KeyError:
            raise ClusterDownError(f"no node has slot {slot}") from None

    def _node(self, address: Address) -> Redis:
        if address not in self._nodes:
            self._nodes[address] = Redis.from_pool(self._pool(address))
        return self._nodes[address]

    def _pool(self, address: Address) -> BlockingConnectionPool:
        return BlockingConnectionPool(**{**self._options, **self._settings, "host": address[0], "port": address[1]})

    async def _learn(self, without: Address | None = None) -> None:
        """Learn which node has which slot, once a second at most; RedisError where no node tells."""
        now_s = asyncio.get_running_loop().time()
        if self._learning is None or (
            self._learning.done() and (not self._slots or now_s - self._learned_s > _LEARN_AGAIN_S)
        ):
            self._learned_s = now_s
            self._learning = asyncio.create_task(self._ask(without))
            # Who waits for it may be gone when it fails.
            self._learning.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._learning)

    async def _ask(self, without: Address | None) -> None:
        """Ask all nodes and believe the first that tells: one that hangs is not waited for."""
        asked = (self._startup | self._known) - {without} or self._startup
        telling = [asyncio.create_task(self._told_by(address)) for address in asked]
        last: RedisError | None = None
        try:
            for told in asyncio.as_completed(telling):
                try:
                    self._slots, self._known = await told
                    break
                except RedisError as error:
                    last = error
            else:
                assert last is not None
                raise last
        finally:
            for task in telling:
                task.cancel()
        for address in self._nodes.keys() - self._known - self._startup:
            await self._nodes.pop(address).connection_pool.disconnect(inuse_connections=False)

    async def _told_by(self, address: Address) -> tuple[dict[int, Address], frozenset[Address]]:
        """Return the node of each slot, and all nodes with their replicas, as one of them tells."""
        node: Any = self._node(address)
        slots: dict[int, Address] = {}
        known: set[Address] = set()
        for first, last, *servers in await node.execute_command("CLUSTER", "SLOTS"):
            # A node that does not know its own host tells none: it is the one by which it was reached.
            addresses = [((host or b"").decode() or address[0], port) for host, port, *_ in servers]
            slots.update(dict.fromkeys(range(first, last + 1), addresses[0]))
            known.update(addresses)
        if not slots:
            raise ClusterDownError(f"{address[0]}:{address[1]} knows no node with slots")
        return slots, frozenset(known)


def read_url(url: str) -> tuple[list[Address], dict[str, Any]]:
    """Return the nodes that `redis+cluster://` names, with commas between them, and what their connections need.

    ValueError where it names none.
    """
    scheme, _, rest = url.partition(MARK)
    end = min((rest.find(mark) for mark in "/?" if mark in rest), default=len(rest))
    credentials, at, hosts = rest[:end].rpartition("@")
    nodes = [parse_url(f"{scheme}://{credentials}{at}{host}{rest[end:]}") for host in hosts.split(",")]
    if not all(node.get("host") for node in nodes):
        raise ValueError("a cluster's URL names its nodes: redis+cluster://host:port,host:port")
    addresses = [(node.pop("host"), node.pop("port", _PORT)) for node in nodes]
    return addresses, cast(dict[str, Any], nodes[0])


async def _send(node: Any, is_asking: bool, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    if not is_asking:
        return await node.execute_command(*args, **options)
    async with node.client() as connection:
        await connection.execute_command("ASKING")  # it is for the next command on its connection
        return await connection.execute_command(*args, **options)
