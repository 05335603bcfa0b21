"""`python -m services.edge` as a process."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.edge.conftest import FakeServices, bearer, form_of

NOWHERE = {f"{name}_ADDRESS": "127.0.0.1:1" for name in ("ASR", "DIARIZE", "SUMMARIZE")} | {"DATA_DIR": "/nowhere"}


@contextmanager
def started(port: int, spool: Path, services: dict[str, str] = NOWHERE) -> Iterator[subprocess.Popen[str]]:
    own = {"EDGE_PORT": str(port), "EDGE_SPOOL_DIR": str(spool), "EDGE_GRACE_S": "1", "REDIS_URL": ""}
    environment = {**os.environ, **services, **own}
    command = [sys.executable, "-m", "services.edge"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def services(fakes: FakeServices, store_dir: Path) -> dict[str, str]:
    """What tells an edge of the fakes and the store."""
    return {name.upper(): address for name, address in fakes.addresses.items()} | {"DATA_DIR": str(store_dir)}


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    while "ready" not in process.stderr.readline():
        assert process.poll() is None


def test_it_starts_without_its_services_says_so_and_ends_cleanly(unused_tcp_port: int, tmp_path: Path) -> None:
    with started(unused_tcp_port, tmp_path) as process:
        wait_until_ready(process)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{unused_tcp_port}/health", timeout=10)
        assert caught.value.code == 503
        assert b'"unavailable"' in caught.value.read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


def test_a_taken_port_is_one_sentence(unused_tcp_port: int, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", unused_tcp_port)), started(unused_tcp_port, tmp_path) as process:
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert len(errors.strip().splitlines()) == 1
    assert f"127.0.0.1:{unused_tcp_port}" in errors
    assert "taken" in errors


def test_an_idle_connection_does_not_delay_the_end(unused_tcp_port: int, tmp_path: Path) -> None:
    with started(unused_tcp_port, tmp_path) as process:
        wait_until_ready(process)
        with socket.create_connection(("127.0.0.1", unused_tcp_port)) as half:
            half.sendall(b"POST /v1/summarize HTTP/1.1\r\nHost: x\r\n")
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 0


async def test_a_running_request_is_ended_after_the_grace(
    unused_tcp_port: int, tmp_path: Path, services: dict[str, str], key: str, fakes: FakeServices, quiet: bytes
) -> None:
    fakes.asr.proceed.clear()
    with started(unused_tcp_port, tmp_path, services) as process:
        await asyncio.to_thread(wait_until_ready, process)
        async with aiohttp.ClientSession(headers=bearer(key)) as http:
            url = f"http://127.0.0.1:{unused_tcp_port}/v1/transcribe"
            request = asyncio.create_task(http.post(url, data=form_of(quiet)))
            await fakes.asr.said.wait()
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(3):
                await fakes.asr.ended.wait()
            with pytest.raises(aiohttp.ClientError):
                await request
        assert await asyncio.to_thread(process.wait, 5) == 0


async def test_a_running_request_may_end_within_the_grace(
    unused_tcp_port: int, tmp_path: Path, services: dict[str, str], key: str, fakes: FakeServices, quiet: bytes
) -> None:
    fakes.asr.proceed.clear()
    with started(unused_tcp_port, tmp_path, services) as process:
        await asyncio.to_thread(wait_until_ready, process)
        async with aiohttp.ClientSession(headers=bearer(key)) as http:
            url = f"http://127.0.0.1:{unused_tcp_port}/v1/transcribe"
            request = asyncio.create_task(http.post(url, data=form_of(quiet)))
            await fakes.asr.said.wait()
            process.send_signal(signal.SIGTERM)
            assert process.stderr is not None
            while "stopping" not in await asyncio.to_thread(process.stderr.readline):
                pass
            fakes.asr.proceed.set()
            assert (await (await request).json())["text"] == "Hello, world."
        assert await asyncio.to_thread(process.wait, 5) == 0
