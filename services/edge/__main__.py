"""Start the edge: `python -m services.edge`, `--help` prints the settings."""

import asyncio
import signal

import structlog
from aiohttp import web

from services.common import logs
from services.common.server import run
from services.common.settings import load
from services.edge.app import build_runner
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
        try:
            await web.TCPSite(runner, settings.host, settings.port).start()
        except OSError as error:
            address = f"{settings.host}:{settings.port}"
            raise OSError(
                f"cannot listen on {address}: the port is taken or the address is not this machine's"
            ) from error
        _log.info("ready", port=runner.addresses[0][1])
        await stopping.wait()
        _log.info("stopping")
    finally:
        await runner.cleanup()


def main() -> None:
    """Read the settings and serve until SIGTERM or SIGINT."""
    settings = load(EdgeSettings, f"python -m {_PROG}", "The HTTP edge of the speech-to-text services.")
    logs.configure(settings.log_level, settings.log_format, "edge")
    run(lambda: _serve(settings), _PROG)


if __name__ == "__main__":
    main()
