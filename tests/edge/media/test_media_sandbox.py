"""What the decoding child is forbidden, tried from inside."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PREAMBLE = """
import ctypes, json, os, signal, socket, sys, threading
from services.edge.media import landlock, sandbox, seccomp

upload = os.open(sys.argv[1], os.O_RDONLY)
libc = ctypes.CDLL(None, use_errno=True)

def everything():
    return sandbox.confine(os.getppid(), memory_bytes=1 << 29, cpu_s=60, file_bytes=1000)

def landlock_alone():
    libc.prctl(38, 1, 0, 0, 0)
    landlock.deny_files_and_network(libc)

def seccomp_alone():
    libc.prctl(38, 1, 0, 0, 0)
    seccomp.restrict_system_calls(libc)

def attempt(action):
    try:
        result = action()
    except (OSError, RuntimeError, MemoryError) as error:
        return type(error).__name__
    if isinstance(result, int) and result < 0:
        return "PermissionError"  # the way of ctypes
    return "allowed"

def say(result):
    os.write(1, json.dumps(result).encode())
    os._exit(0)
"""
FILES = {
    "open a file": "open('/etc/passwd')",
    "open the upload by its name": "open(sys.argv[1])",
    "list a folder": "os.listdir('/')",
    "create a file": "os.open(sys.argv[1] + '.new', os.O_CREAT | os.O_WRONLY)",
    "delete a file": "os.unlink(sys.argv[1])",
}
NETWORK = {"connect": "tcp.connect(('127.0.0.1', 9))"}
SYSTEM = {
    "make a socket": "socket.socket()",
    "fork": "os.fork()",
    "run a program": "os.execv('/bin/sh', ['sh', '-c', 'echo allowed'])",
    "start a thread": "threading.Thread(target=print).start()",
    "signal its parent": "os.kill(os.getppid(), 0)",
    "trace its parent": "libc.ptrace(16, os.getppid(), 0, 0)",
    "read its parent's memory": "libc.process_vm_readv(os.getppid(), None, 0, None, 0, 0)",
    "raise its limits": "libc.prlimit64(0, 0, None, None)",
}


def confined(layer: str, action: str, upload: Path) -> object:
    """Run `action` in a process confined by `layer`; return what it says."""
    prepare = "tcp = socket.socket()\n" if "tcp" in action else ""
    script = f"{PREAMBLE}\n{prepare}{layer}()\nsay({action})"
    ended = subprocess.run([sys.executable, "-c", script, str(upload)], capture_output=True, timeout=30, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    return json.loads(ended.stdout)


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    path = tmp_path / "upload"
    path.write_bytes(b"content")
    return path


@pytest.mark.parametrize("deed", {**FILES, **SYSTEM})
def test_the_child_cannot(deed: str, upload: Path) -> None:
    outcome = confined("everything", f"attempt(lambda: {({**FILES, **SYSTEM})[deed]})", upload)
    assert outcome in {"PermissionError", "RuntimeError", "BlockingIOError"}
    assert upload.read_bytes() == b"content"


@pytest.mark.parametrize("deed", {**FILES, **SYSTEM})
def test_the_system_call_filter_alone_would_do(deed: str, upload: Path) -> None:
    outcome = confined("seccomp_alone", f"attempt(lambda: {({**FILES, **SYSTEM})[deed]})", upload)
    assert outcome in {"PermissionError", "RuntimeError"}


@pytest.mark.parametrize("deed", {**FILES, **NETWORK})
def test_landlock_alone_keeps_files_and_ports_closed(deed: str, upload: Path) -> None:
    outcome = confined("landlock_alone", f"attempt(lambda: {({**FILES, **NETWORK})[deed]})", upload)
    assert outcome == "PermissionError"


def test_the_child_can_read_what_it_was_given(upload: Path) -> None:
    assert confined("everything", "os.pread(upload, 100, 0).decode()", upload) == "content"


def test_the_child_cannot_take_more_memory_than_its_limit(upload: Path) -> None:
    assert confined("everything", "attempt(lambda: bytearray(1 << 29))", upload) == "MemoryError"


def test_the_child_cannot_write_a_larger_file_than_its_limit(tmp_path: Path, upload: Path) -> None:
    script = f"{PREAMBLE}\nsink = open(sys.argv[1], 'wb', 0)\neverything()\nsay(sink.write(bytes(5000)))"
    subprocess.run([sys.executable, "-c", script, str(upload)], check=True, timeout=30, capture_output=True)
    assert upload.stat().st_size == 1000


def test_what_could_not_be_applied_is_named(upload: Path) -> None:
    # Once confined, a process can change nothing any more: every layer that needs a system call reports that.
    missing = confined("everything", "everything()", upload)
    assert isinstance(missing, list)
    assert [entry.split(":")[0] for entry in missing] == [
        "parent_death",
        "no_new_privs",
        "rlimits",
        "landlock",
        "seccomp",
    ]
