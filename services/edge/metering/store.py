"""The store of accounts and credits: Redis-protocol servers, and the Lua scripts that are its only transactions.

Every key of one subject shares a hash tag, so that a script's keys lie on one node of a cluster. Every script may be
run again with the same operation: the second time changes nothing. That is why the client itself retries nothing, and
`run` tries once more where a connection was lost.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import structlog
from redis.asyncio import BlockingConnectionPool, Redis, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from services.common import tracing
from services.common.errors import Reason, SttError
from services.edge.metering.cluster import MARK, Cluster, read_url
from services.edge.metrics import STORE_DURATION, STORE_FAILURES

CONNECT_TIMEOUT_S = 0.5
REPLY_TIMEOUT_S = 1.0
_CONNECTIONS = 16
_SCRIPTS = Path(__file__).parent / "scripts"
_LONGEST_SOCKET_PATH = 100
T = TypeVar("T")
_log = structlog.get_logger(__name__)


class StoreDownError(SttError):
    """The store cannot be reached, or cannot be written; what was asked may have happened all the same."""

    def __init__(self) -> None:
        super().__init__(Reason.SERVICE_UNAVAILABLE, "The account store cannot be reached.", retry_after_s=5)


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose limits and credits: an account's, or those of an address without one."""

    kind: str
    name: str

    def key(self, what: str) -> str:
        """Return the name of one of its keys."""
        return f"stt:{{{self.kind}:{self.name}}}:{what}"

    @property
    def is_anonymous(self) -> bool:
        """Whether it has no account."""
        return self.kind == "address"


def account(name: str) -> Subject:
    """Return the subject that is an account."""
    return Subject("account", name)


def address(name: str) -> Subject:
    """Return the subject that is an address without an account."""
    return Subject("address", name)


class Store:
    """The scripts of `scripts/`, over a client that does not retry. `clock` is Lua that tells the server's time."""

    def __init__(self, redis: Redis, clock: str | None = None) -> None:
        self.redis = redis
        prelude = (clock or _read("clock")) + _read("subject")
        names = [path.stem for path in _SCRIPTS.glob("*.lua") if path.stem not in ("clock", "subject")]
        self._scripts: dict[str, AsyncScript] = {name: redis.register_script(prelude + _read(name)) for name in names}

    async def run(
        self,
        script: str,
        subject: Subject,
        *arguments: str | int | bytes,
        operation: str = "",
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Run a script on a subject and return what it says; StoreDownError where that cannot be had."""
        keys = [subject.key(what) for what in ("state", "leases", "jobs", "ledger", f"done:{operation}")]
        if idempotency_key is not None:
            keys.append(answer_key(subject, idempotency_key))
        # Leases are renewed for no request, and all the time.
        span = nullcontext() if script == "renew" else tracing.calling(f"store {script}", {"db.system.name": "valkey"})
        with STORE_DURATION.labels(script).time(), span:
            try:
                reply = await reached(self._scripts[script](keys=keys, args=arguments))
            except StoreDownError as error:
                if not isinstance(error.__cause__, RedisConnectionError):
                    raise
                # The server may have been restarted since the connection was made.
                reply = await reached(self._scripts[script](keys=keys, args=arguments))
        return dict(json.loads(reply))


async def reach(redis: Redis) -> float:
    """Return how much of the store answers, 0 to 1; of one server all or nothing."""
    try:
        return await redis.reach() if isinstance(redis, Cluster) else float(await redis.ping())
    except RedisError:
        return 0.0


async def nodes(redis: Redis) -> list[Redis]:
    """Return the servers that hold accounts, for what is asked of each; StoreDownError where none can be reached."""
    return await reached(redis.nodes()) if isinstance(redis, Cluster) else [redis]


async def reached(reply: Awaitable[T]) -> T:
    """Return a reply of the client; StoreDownError where the store cannot be reached."""
    task = asyncio.current_task()
    assert task is not None
    cancelled = task.cancelling()
    try:
        result = await reply
    except RedisError as error:
        STORE_FAILURES.inc()
        if isinstance(error, ResponseError):
            _log.error("the account store refuses", error=str(error))
        raise StoreDownError from error
    if task.cancelling() > cancelled:
        # The client waits with asyncio.wait_for, which before Python 3.12 forgets a cancellation that meets the end.
        raise asyncio.CancelledError
    return result


def answer_key(subject: Subject, idempotency_key: str) -> str:
    """Return the name of the key that remembers the answer to an Idempotency-Key."""
    return subject.key("answer:" + hashlib.sha256(idempotency_key.encode()).hexdigest())


@asynccontextmanager
async def connect(redis_url: str, data_dir: Path) -> AsyncIterator[Redis]:
    """Open a client of `redis_url` or, where that is empty, of the store that `make run` keeps in `data_dir`.

    `redis+cluster://` and `rediss+cluster://` are clusters. OSError where it is no such URL.
    """
    options: dict[str, Any] = {
        "max_connections": _CONNECTIONS,
        "timeout": REPLY_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": REPLY_TIMEOUT_S,
    }
    try:
        if MARK in redis_url:
            client: Redis = Cluster(redis_url, **options)
        elif redis_url:
            client = Redis.from_pool(BlockingConnectionPool.from_url(redis_url, **options))
        else:
            path = socket_path(data_dir)
            pool = BlockingConnectionPool(connection_class=UnixDomainSocketConnection, path=path, **options)
            client = Redis.from_pool(pool)
    except ValueError as error:
        raise OSError(f"REDIS_URL cannot be used: {error}") from None  # it may have a password
    async with client as redis:
        yield redis


def shown(redis_url: str, data_dir: Path) -> str:
    """Return where the store is, for people: its URL may have a password."""
    if MARK in redis_url:
        return ",".join(f"{host}:{port}" for host, port in read_url(redis_url)[0])
    url = urlsplit(redis_url)
    return f"{url.hostname}:{url.port or 6379}" if url.hostname else url.path or socket_path(data_dir)


def socket_path(data_dir: Path) -> str:
    """Return where the embedded store listens, relative where the absolute path is too long for a socket."""
    path = str(data_dir.absolute() / "valkey.sock")
    return path if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH else os.path.relpath(path)


def _read(script: str) -> str:
    return (_SCRIPTS / f"{script}.lua").read_text()
