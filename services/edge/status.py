"""Show on one screen how the house is: `python -m services.edge.status`; with --wait-s, wait until all of it is up."""

import argparse
import asyncio
import os
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from services.common.errors import SttError
from services.edge.backends import ASR, DIARIZE, SUMMARIZE, Backends
from services.edge.metering.store import connect, is_there, socket_path
from services.edge.settings import EdgeSettings

_POLL_S = 0.2


@dataclass(frozen=True)
class Row:
    """One program: its name, where it should be, and what is the matter (empty when it is healthy)."""

    name: str
    address: str
    trouble: str


async def look(settings: EdgeSettings, backends: Backends) -> list[Row]:
    """Return a row per program, the edge first."""
    down = await backends.down()
    addresses = {
        ASR: settings.asr_address,
        DIARIZE: settings.diarize_address,
        SUMMARIZE: settings.summarize_address,
    }
    rows = [Row(name, address, "does not serve" if name in down else "") for name, address in addresses.items()]
    async with connect(settings.redis_url, settings.data_dir) as redis:
        rows.append(Row("store", _store_address(settings), "" if await is_there(redis) else "does not answer"))
    return [Row("edge", f"{settings.host}:{settings.port}", await _edge_trouble(settings)), *rows]


async def models(backends: Backends) -> str:
    """Return the loaded recognition models and their device, in a line."""
    try:
        catalog = await backends.catalog()
    except SttError as error:
        return error.message
    loaded = ", ".join(model.id for model in catalog.models if model.available) or "none"
    return f"{loaded} on {catalog.device.name or 'the CPU'}"


def _store_address(settings: EdgeSettings) -> str:
    """Return where the store is; its URL may have a password."""
    url = urlsplit(settings.redis_url)
    return f"{url.hostname}:{url.port or 6379}" if url.hostname else url.path or socket_path(settings.data_dir)


async def _edge_trouble(settings: EdgeSettings) -> str:
    url = f"http://{settings.host}:{settings.port}/health"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=settings.probe_deadline_s * 2)) as session,
            session.get(url) as answer,
        ):
            state = await answer.json()
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return "does not answer"
    return "" if state.get("status") == "ok" else str(state.get("error") or state.get("status"))


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def _main(wait_s: float, while_pid: int | None) -> int:
    settings = EdgeSettings()
    deadline = time.monotonic() + wait_s
    async with Backends(settings) as backends:
        while True:
            rows = await look(settings, backends)
            healthy = not any(row.trouble for row in rows)
            abandoned = while_pid is not None and not _is_running(while_pid)
            if healthy or abandoned or time.monotonic() >= deadline:
                break
            await asyncio.sleep(_POLL_S)
        for row in rows:
            print(f"{row.name:<12}  {row.address:<24}  {row.trouble or 'healthy'}")
        if healthy:
            print(f"{'models':<12}  {await models(backends)}")
    return 0 if healthy else 1


def main() -> None:
    """Print the state; the exit status is 0 when everything is healthy."""
    parser = argparse.ArgumentParser(prog="python -m services.edge.status", description=__doc__)
    parser.add_argument("--wait-s", type=float, default=0, help="seconds to wait until everything is healthy")
    parser.add_argument("--while-pid", type=int, help="give up as soon as this process has ended")
    arguments = parser.parse_args()
    raise SystemExit(asyncio.run(_main(arguments.wait_s, arguments.while_pid)))


if __name__ == "__main__":
    main()
