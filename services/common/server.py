"""The life of a gRPC server: health, reflection, metrics, signals, drain and stop."""

import asyncio
import atexit
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.common import metrics, reflection
from services.common.interceptors import RequestInterceptor
from services.common.settings import GrpcSettings

_log = structlog.get_logger(__name__)

_OPTIONS: list[tuple[str, int]] = [
    # Two servers on one port would silently share its requests.
    ("grpc.so_reuseport", 0),
    # Without it a client runs some 4 MB (two minutes of audio) ahead of the engine.
    ("grpc.http2.bdp_probe", 0),
    # Clients ping every 20 s, also while their stream is silent.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Clients look for new replicas when a connection ends; running streams, of 12 h at most, go on.
    ("grpc.max_connection_age_ms", 30_000),
    ("grpc.max_connection_age_grace_ms", 13 * 3_600_000),
    # 1,000,000 characters of text are up to 4 MB.
    ("grpc.max_receive_message_length", 8 * 1024 * 1024),
]


_LIVE = "live"
"""What to ask health for to know whether a restart is needed."""
_LOOK_S = 0.25
_SERVING, _NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def _always() -> bool:
    return True


class GrpcServer:
    """A grpc.aio server with grpc.health.v1, optional reflection and the house's interceptors.

    `register` adds the servicers; `services` are their full names, for health and reflection. They and "" are SERVING
    while `is_ready` says that requests can be answered, and until the server stops; "live" is as long as `is_alive`
    says that no restart is needed, also while it stops.
    """

    def __init__(
        self,
        settings: GrpcSettings,
        services: Sequence[str],
        register: Callable[[grpc.aio.Server], None],
        *,
        is_ready: Callable[[], bool] = _always,
        is_alive: Callable[[], bool] = _always,
    ) -> None:
        self._settings = settings
        self._is_ready = is_ready
        self._is_alive = is_alive
        self._is_stopping = False
        self._told: dict[str, int] = {}
        self._services = ("", *services)
        self._server = grpc.aio.server(interceptors=[RequestInterceptor()], options=_OPTIONS)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if settings.reflection:
            reflection.enable((*services, health.SERVICE_NAME), self._server)
        register(self._server)

    async def start(self) -> int:
        """Listen, say how it is from now on, and return the port. Raises OSError when the address cannot be had."""
        address = f"{self._settings.host}:{self._settings.port}"
        try:
            port: int = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(
                f"cannot listen on {address}: the port is taken or the address is not this machine's"
            ) from error
        await self._server.start()
        await self._tell()
        self._telling = asyncio.create_task(self._keep_telling())
        return port

    async def stop(self) -> None:
        """Say NOT_SERVING, wait for balancers to notice, let running RPCs finish within the grace, then end them."""
        self._is_stopping = True
        await self._tell()
        await asyncio.sleep(self._settings.drain_s)
        await self._server.stop(self._settings.grace_s)
        self._telling.cancel()
        with suppress(asyncio.CancelledError):
            await self._telling

    async def _keep_telling(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self._tell()
            except Exception:  # what it was told by last time must not stand for ever
                _log.exception("health not told")

    async def _tell(self) -> None:
        """Set the health of all services to what it is now."""
        is_ready = self._is_ready() and not self._is_stopping
        now = dict.fromkeys(self._services, _SERVING if is_ready else _NOT_SERVING)
        now[_LIVE] = _SERVING if self._is_alive() else _NOT_SERVING
        for service, status in now.items():
            if self._told.get(service) != status:
                self._told[service] = status
                await self._health.set(service, status)


async def serve(server: GrpcServer, settings: GrpcSettings, **fields: object) -> None:
    """Run `server` until SIGTERM or SIGINT; `fields` go into the log line that says it listens."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopping.set)
    metrics_port = metrics.serve(settings.host, settings.metrics_port)
    port = await server.start()
    _log.info("ready", port=port, metrics_port=metrics_port, **fields)
    await stopping.wait()
    _log.info("stopping")
    await server.stop()


def run(main: Callable[[], Coroutine[Any, Any, None]], prog: str) -> None:
    """Run a program's coroutine function and end the process; what it cannot start with is a sentence and status 1."""
    try:
        asyncio.run(main())
    except OSError as error:
        raise SystemExit(f"{prog}: {error}") from None
    # Native work cannot be interrupted, and Python would wait for its threads although nobody waits for what they do.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
