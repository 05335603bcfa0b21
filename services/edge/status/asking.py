"""Ask every replica of every program how it is: its health and its metrics, all at once and none for long."""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.common.channels import open_channel
from services.edge.metering.store import StoreDownError, connect, nodes, shown
from services.edge.settings import EdgeSettings
from services.edge.status.figures import Metrics

State = Literal["serving", "not serving", "stopping", "degraded", "unavailable", "down", "unknown"]
Resolve = Callable[[str], Awaitable[list[str]]]
"""Returns all addresses of a name; OSError where it has none."""
_TIMEOUT_S = 3.0
_PINGS = 3
"""Of which the shortest counts: the first connects, and this program may be busy."""
_LATE = "It does not answer in time."
_EDGE_STATES: dict[Any, State] = {"ok": "serving", "degraded": "degraded", "unavailable": "unavailable"}
_THIS_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # compared with, not listened on


@dataclass(frozen=True, slots=True)
class Replica:
    """One process of a program: "serving" is healthy; `trouble` is a sentence where there is more to say."""

    program: str
    address: str
    state: State
    trouble: str = ""
    metrics: Metrics | None = None
    """None where they cannot be read."""


@dataclass(frozen=True, slots=True)
class StoreNode:
    """One server of the account store; the figures are None where it does not answer."""

    address: str
    ping_ms: float | None = None
    version: str | None = None
    up_s: int | None = None
    memory_bytes: int | None = None
    clients: int | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """How everything was at one time (seconds since 1970)."""

    at_s: float
    replicas: list[Replica]
    store: list[StoreNode]

    @property
    def is_healthy(self) -> bool:
        """Whether every replica serves and the whole store answers."""
        return all(r.state == "serving" for r in self.replicas) and all(n.ping_ms is not None for n in self.store)


async def resolve(host: str) -> list[str]:
    """Return all addresses of a name; OSError where it has none."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[Any]] = loop.create_future()

    def tell(result: list[Any], error: OSError | None) -> None:
        if not found.done():
            found.set_exception(error) if error else found.set_result(result)

    def ask() -> None:
        result, failed = [], None
        try:
            result = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            failed = error
        with suppress(RuntimeError):  # nobody waits any more
            loop.call_soon_threadsafe(tell, result, failed)

    # Not the loop's executor: its end waits for a server of names that does not answer.
    threading.Thread(target=ask, daemon=True).start()
    addresses = {(family, str(address[0])) for family, _, _, _, address in await found}
    # A host that has an address of each family is one replica.
    chosen = min(family for family, _ in addresses)
    return sorted(address for family, address in addresses if family == chosen)


async def look(settings: EdgeSettings, resolve: Resolve = resolve) -> Look:
    """Ask everybody, the edges first; a name without an address is a replica that is unknown."""
    services = (
        ("asr", settings.asr_address, settings.asr_metrics_port),
        ("diarize", settings.diarize_address, settings.diarize_metrics_port),
        ("summarize", settings.summarize_address, settings.summarize_metrics_port),
    )
    edges = settings.status_address or f"{_THIS_HOST.get(settings.host, settings.host)}:{settings.port}"
    async with aiohttp.ClientSession() as http:

        async def edge(address: str) -> tuple[State, str]:
            return await _edge_health(http, address, settings.probe_deadline_s + 1)

        asked = [_replicas("edge", edges, settings.metrics_port, resolve, http, edge)]
        asked += [_replicas(name, address, port, resolve, http, _health) for name, address, port in services]
        store, found = await asyncio.gather(_store(settings), asyncio.gather(*asked))
    return Look(time.time(), [replica for replicas in found for replica in replicas], store)


async def _replicas(
    program: str,
    address: str,
    metrics_port: int,
    resolve: Resolve,
    http: aiohttp.ClientSession,
    health: Callable[[str], Awaitable[tuple[State, str]]],
) -> list[Replica]:
    host, _, port = address.removeprefix("dns:///").rpartition(":")
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            hosts = await resolve(host.strip("[]"))
    except OSError:  # a TimeoutError is one
        return [Replica(program, address, "unknown", "This name has no address.")]

    async def ask(host: str) -> Replica:
        at = _at(host, port)
        (state, trouble), metrics = await asyncio.gather(health(at), _metrics(http, host, metrics_port))
        return Replica(program, at, state, trouble, metrics)

    return await asyncio.gather(*map(ask, hosts))


async def _health(address: str) -> tuple[State, str]:
    async with open_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            return "down", _LATE if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else ""
    return ("serving" if answer.status == health_pb2.HealthCheckResponse.SERVING else "not serving"), ""


async def _edge_health(http: aiohttp.ClientSession, address: str, timeout_s: float) -> tuple[State, str]:
    timeout = aiohttp.ClientTimeout(total=timeout_s)  # it asks the services itself
    try:
        async with http.get(f"http://{address}/ready", timeout=timeout) as ready:
            if ready.status != 200:
                return "stopping", ""
        async with http.get(f"http://{address}/health", timeout=timeout) as answer:
            health = await answer.json()
    except TimeoutError:
        return "down", _LATE
    except (aiohttp.ClientError, ValueError):
        return "down", ""
    state = _EDGE_STATES.get(health.get("status"), "down")
    return state, health.get("error") or " ".join(health.get("warnings", ()))


async def _metrics(http: aiohttp.ClientSession, host: str, port: int) -> Metrics | None:
    if not port:
        return None
    try:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with http.get(f"http://{_at(host, port)}/metrics", timeout=timeout) as answer:
            return Metrics.parse(await answer.text()) if answer.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None


async def _store(settings: EdgeSettings) -> list[StoreNode]:
    address = shown(settings.redis_url, settings.data_dir)
    async with connect(settings.redis_url, settings.data_dir) as redis:
        try:
            servers = await nodes(redis)
        except StoreDownError:
            return [StoreNode(address)]
        if len(servers) == 1:
            return [await _ask_node(servers[0], address)]  # a cluster itself takes no command without a key
        options = [server.connection_pool.connection_kwargs for server in servers]
        names = [_at(option["host"], option["port"]) for option in options]
        return await asyncio.gather(*map(_ask_node, servers, names))


async def _ask_node(redis: Redis, address: str) -> StoreNode:
    try:
        ping_ms = min([await _ping(redis) for _ in range(_PINGS)]) * 1000
        info = await redis.info()
    except RedisError:
        return StoreNode(address)
    return StoreNode(
        address,
        ping_ms,
        str(info.get("valkey_version") or info.get("redis_version")),
        info.get("uptime_in_seconds"),
        info.get("used_memory"),
        info.get("connected_clients"),
    )


async def _ping(redis: Redis) -> float:
    asked_s = time.perf_counter()
    await redis.ping()
    return time.perf_counter() - asked_s


def _at(host: str, port: object) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
