"""The whole house as a newcomer starts it: four real processes under the Procfile runner."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
STACK = ROOT / "docker" / "local" / "stack.sh"
NAMES = ("EDGE", "ASR", "DIARIZE", "SUMMARIZE")
START_LIMIT_S = 90


def free_loopback_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Stack:
    """`stack.sh run` on free ports, its output in a file, and every process it has started."""

    def __init__(self, ports: list[int], log: Path) -> None:
        self.url = f"http://127.0.0.1:{ports[0]}"
        self.env = environment(ports)
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [str(STACK), "run"], env=self.env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

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

    def interrupt(self) -> None:
        """Do what a terminal does on Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> None:
        everything = self.descendants() if self.process.poll() is None else []
        self.process.terminate()
        self.process.wait(20)
        for process in psutil.wait_procs(everything, timeout=5)[1]:
            process.kill()


def environment(ports: list[int]) -> dict[str, str]:
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'build' / 'stubs'}",
    }
    for name, port in zip(NAMES, ports, strict=True):
        env[f"{name}_PORT"] = str(port)
        env[f"{name}_ADDRESS"] = f"127.0.0.1:{port}"
    return env
