"""Start the edge: `python -m services.edge`, `--help` prints the settings."""

import asyncio
import signal
from contextlib import suppress

import structlog
from aiohttp import web

from services.common import logs, metrics, tracing
from services.common.server import run
from services.common.settings import load
from services.edge.app import build_runner
from services.edge.keys import SESSIONS, STOPPING
from services.edge.settings import EdgeSettings

_PROG = "services.edge"
_log = structlog.get_logger(__name__)


async def _serve(settings: EdgeSettings) -> None:
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    runner = build_runner(settings)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port)
        try:
            await site.start()
        except OSError as error:
            address = f"{settings.host}:{settings.port}"
            raise OSError(
                f"cannot listen on {address}: the port is taken or the address is not this machine's"
            ) from error
        metrics_port = metrics.serve(settings.host, settings.metrics_port)
        _log.info("ready", port=runner.addresses[0][1], metrics_port=metrics_port)
        await stopping.wait()
        _log.info("stopping", live_sessions=len(runner.app[SESSIONS]))
        await _drain(runner, site, settings)
    finally:
        await runner.cleanup()


async def _drain(runner: web.AppRunner, site: web.TCPSite, settings: EdgeSettings) -> None:
    """Let balancers notice, take no more connections, and let live sessions go on for as long as they may."""
    runner.app[STOPPING].set()
    await asyncio.sleep(settings.drain_s)
    await site.stop()
    # Who was accepted last is known as a connection after a turn of the loop.
    await asyncio.sleep(0)
    assert runner.server is not None
    # Connections that wait for another request are closed.
    runner.server.pre_shutdown()
    with suppress(TimeoutError):
        async with asyncio.timeout(settings.stream_drain_s):
            await asyncio.gather(*(session.ended.wait() for session in runner.app[SESSIONS]))


def main() -> None:
    """Read the settings and serve until SIGTERM or SIGINT."""
    settings = load(EdgeSettings, f"python -m {_PROG}", "The HTTP edge of the speech-to-text services.")
    logs.configure(settings.log_level, settings.log_format, "edge")
    tracing.configure(settings.traces_exporter, "edge")
    run(lambda: _serve(settings), _PROG)


if __name__ == "__main__":
    main()
