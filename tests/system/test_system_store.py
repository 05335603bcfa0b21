"""The embedded store alone: one per folder, its data on disk, and a log that says only what matters."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from services.edge.metering.store import socket_path
from tests.embedded_store import ROOT, valkey, wait_for_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def running(folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The keeper of a store in `folder`."""
    with valkey(folder) as process:
        yield process


def client(folder: Path) -> redis.Redis:
    return redis.Redis(unix_socket_path=socket_path(folder), retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0))


def refused(folder: Path, *options: str) -> str:
    """Start a store that cannot start; return its last words."""
    command = [sys.executable, "docker/local/store.py", *options, str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert result.returncode == 1
    assert result.stdout == ""
    return result.stderr


def server_of(keeper: "subprocess.Popen[bytes]") -> psutil.Process:
    (server,) = psutil.Process(keeper.pid).children()
    return server


def test_a_start_and_an_end_say_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with valkey(folder):
        pass
    assert capfd.readouterr() == ("", "")


def test_nobody_else_may_read_it(running: "subprocess.Popen[bytes]", folder: Path) -> None:
    everything = [folder, *folder.rglob("*")]
    assert any(path.is_socket() for path in everything)
    assert [path for path in everything if path.stat().st_mode & 0o077] == []


def test_a_killed_server_comes_back_with_what_it_had_acknowledged_and_says_so(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with valkey(folder) as keeper, client(folder) as store:
        store.set("credits", 100)
        server = server_of(keeper)
        server.kill()
        server.wait(5)
        wait_for_store(folder)
        assert store.get("credits") == b"100"
    assert capfd.readouterr().err == "the store ended with status -9; starting it again\n"


def test_when_its_keeper_is_killed_the_server_ends_too(running: "subprocess.Popen[bytes]", folder: Path) -> None:
    server = server_of(running)
    running.kill()
    server.wait(5)
    with valkey(folder):
        pass


def test_it_ends_when_its_last_client_is_gone(running: "subprocess.Popen[bytes]", folder: Path) -> None:
    server = server_of(running)
    with client(folder) as settling:
        settling.ping()
        running.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(0.5)
        settling.set("settled", 1)
    assert running.wait(1) == 0
    assert not server.is_running()
    assert not (folder / "valkey.sock").exists()
    with valkey(folder), client(folder) as store:
        assert store.get("settled") == b"1"


def test_a_client_that_stays_does_not_keep_it(running: "subprocess.Popen[bytes]", folder: Path) -> None:
    with client(folder) as staying:
        staying.ping()
        running.terminate()
        assert running.wait(4.5) == 0


@pytest.mark.parametrize("options", [[], ["--check"]])
def test_a_second_store_in_a_folder_is_refused_in_a_sentence(
    running: "subprocess.Popen[bytes]", folder: Path, options: list[str]
) -> None:
    assert refused(folder, *options) == f"Another store runs in {folder}; DATA_DIR chooses another folder.\n"


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = refused(tmp_path / "file" / "data")
    assert message.startswith("Cannot keep data in ")
    assert "DATA_DIR" in message
    assert len(message.splitlines()) == 1


def test_a_path_that_no_socket_can_have_is_a_sentence(tmp_path: Path) -> None:
    message = refused(tmp_path / ("x" * 60) / ("y" * 60))
    assert "too long for a socket" in message
    assert "DATA_DIR" in message
    assert len(message.splitlines()) == 1


def test_a_damaged_store_says_what_is_wrong_and_is_not_tried_again(folder: Path) -> None:
    with valkey(folder), client(folder) as store:
        store.set("credits", 100)
    (log,) = folder.glob("appendonlydir/*.incr.aof")
    log.write_bytes(b"damaged" + log.read_bytes())
    message = refused(folder)
    assert "Bad file format reading the append only file" in message
    assert message.endswith(f"The store in {folder} cannot be started; the lines above say why.\n")


def test_a_socket_that_a_killed_store_left_is_no_hindrance(folder: Path) -> None:
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / "valkey.sock"))
    with valkey(folder) as process:
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(5) == 0
