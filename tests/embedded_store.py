"""The embedded store as `make run` starts it; for the tests' fixtures and for the bench, which has no pytest."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from services.edge.metering.store import socket_path

ROOT = Path(__file__).parents[1]


@contextmanager
def valkey(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the embedded store in `folder` until the end; the process is its keeper, which restarts a killed server."""
    process = subprocess.Popen([sys.executable, "docker/local/store.py", str(folder)], cwd=ROOT)
    with process:
        try:
            wait_for_store(folder)
            yield process
        finally:
            process.terminate()


def wait_for_store(folder: Path) -> None:
    """Return when the store of `folder` answers."""
    retry = redis.retry.Retry(redis.backoff.ConstantBackoff(0.02), 500)
    errors = [redis.exceptions.ConnectionError, FileNotFoundError]
    with redis.Redis(unix_socket_path=socket_path(folder), retry=retry, retry_on_error=errors) as client:
        client.ping()
