"""The whole house as a newcomer starts it: four real processes and their store under the Procfile runner."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
STACK = ROOT / "docker" / "local" / "stack.sh"
NAMES = ("EDGE", "ASR", "DIARIZE", "SUMMARIZE")
START_LIMIT_S = 90


def free_loopback_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, below those that outgoing connections take while the programs start."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports += [port] if port not in ports else []
    return ports


class Stack:
    """`stack.sh run` on free ports, in a folder of its own with its output and its data, and all its processes."""

    def __init__(self, ports: list[int], folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.url = f"http://127.0.0.1:{ports[0]}"
        self.folder = folder
        self.data_dir = folder / ".data"
        self.env = environment(ports, self.data_dir) | dict(settings or {})
        self._log = folder / "log"
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [str(STACK), "run"],
                cwd=folder, env=self.env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while "Ready at" not in self.output():
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.1)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def program(self, name: str) -> psutil.Process:
        return next(p for p in self.descendants() if p.cmdline()[-2:] == ["-m", f"services.{name}"])

    def server(self) -> psutil.Process:
        """The embedded Valkey."""
        return next(p for p in self.descendants() if p.name() == "valkey-server")

    def development_key(self) -> str:
        return (self.data_dir / "development.key").read_text().strip()

    def interrupt(self) -> None:
        """Do what a terminal does on Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> None:
        everything = self.descendants() if self.process.poll() is None else []
        self.process.terminate()
        self.process.wait(20)
        for process in psutil.wait_procs(everything, timeout=5)[1]:
            process.kill()


def accounts(env: Mapping[str, str], *arguments: str) -> Any:
    """What the accounts command says about the store of `env`."""
    command = [sys.executable, "-m", "services.edge.accounts", *arguments, "--json"]
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=20)
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout)


def environment(ports: list[int], data_dir: Path) -> dict[str, str]:
    env = {
        **os.environ,
        "DATA_DIR": str(data_dir),
        "REDIS_URL": "",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'build' / 'stubs'}",
    }
    for name, port in zip(NAMES, ports, strict=True):
        env[f"{name}_PORT"] = str(port)
    return env
