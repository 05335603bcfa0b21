"""Show on one screen how the house is: every replica of every program, and the store. `--wait-s` waits until it is up.

It asks whom the settings name, as the edge does: ASR_ADDRESS, REDIS_URL and so on, EDGE_STATUS_ADDRESS for several
edges, and *_METRICS_PORT. Errors are those that the server is to blame for, and queue waits those of the kind of work
that waits longest, since each program's start; with --over SECONDS what happened in that time.
"""

import argparse
import asyncio
import os
import time

from services.common.settings import read
from services.edge.settings import EdgeSettings
from services.edge.status.asking import Look, look
from services.edge.status.screen import as_json, as_text

_POLL_S = 0.5


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def _wait(settings: EdgeSettings, wait_s: float, while_pid: int | None) -> Look:
    deadline = time.monotonic() + wait_s
    while True:
        found = await look(settings)
        is_abandoned = while_pid is not None and not _is_running(while_pid)
        if found.is_healthy or is_abandoned or time.monotonic() >= deadline:
            return found
        await asyncio.sleep(_POLL_S)


async def _main(arguments: argparse.Namespace) -> int:
    settings = read(EdgeSettings)
    now, before = await _wait(settings, arguments.wait_s, arguments.while_pid), None
    if arguments.over:
        await asyncio.sleep(arguments.over)
        now, before = await look(settings), now
    print(as_json(now, before) if arguments.json else as_text(now, before))
    return 0 if now.is_healthy else 1


def main() -> None:
    """Print the state; the exit status is 0 when everything is healthy."""
    parser = argparse.ArgumentParser(prog="python -m services.edge.status", description=__doc__)
    parser.add_argument("--wait-s", type=float, default=0, help="seconds to wait until everything is healthy")
    parser.add_argument("--while-pid", type=int, help="give up as soon as this process has ended")
    parser.add_argument("--over", type=float, metavar="SECONDS", help="look twice, and tell what happened in between")
    parser.add_argument("--json", action="store_true", help="for scripts; what is not known is null")
    try:
        raise SystemExit(asyncio.run(_main(parser.parse_args())))
    except (OSError, ValueError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
