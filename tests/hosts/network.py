"""Several hosts on this machine: network namespaces, each with an address of its own, on one switch.

Nothing of it lies in the machine's own network, not even the switch, so that networks of several runs meet nowhere.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_SUBNET = "10.77.0"
_MOST_HOSTS = 32
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def ip(*arguments: str, batch: str = "") -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, input=batch).stdout


@dataclass(frozen=True)
class Host:
    """One host; its link's other end, at the switch, has the host's name."""

    name: str
    namespace: str
    address: str
    _switch: str

    def run(self, command: Sequence[str], log: Path, settings: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        """Start a program here, whose output goes to `log`; it ends with the tests, however they end."""
        with log.open("ab") as output:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *command],
                stdout=output, stderr=subprocess.STDOUT, env=settings, preexec_fn=_die_with_parent,
            )  # fmt: skip

    def cut_off(self) -> None:
        """Let nothing through to it or from it any more; nobody is told."""
        ip("-n", self._switch, "link", "set", "dev", self.name, "down")

    def reconnect(self) -> None:
        ip("-n", self._switch, "link", "set", "dev", self.name, "up")

    def traffic(self) -> tuple[int, int]:
        """How many bytes its link carried: (to it, from it)."""
        (link,) = json.loads(ip("-n", self.namespace, "-s", "-j", "link", "show", "eth0"))
        return link["stats64"]["rx"]["bytes"], link["stats64"]["tx"]["bytes"]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be on this host: sockets that this thread makes are the host's. Names are still looked up on the machine."""
        with Path("/proc/thread-self/ns/net").open() as outside, Path("/run/netns", self.namespace).open() as inside:
            _enter(inside.fileno())
            try:
                yield
            finally:
                _enter(outside.fileno())


class Network:
    """The switch and the hosts. `nameserver` is the address of the host that all of them ask for names."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._namespaces: list[str] = []
        self._switch = self._add("switch")
        try:
            ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
            ip("-n", self._switch, "link", "set", "bridge", "up")
        except subprocess.CalledProcessError:
            self.close()
            raise
        self.nameserver = f"{_SUBNET}.1"

    def add(self, name: str) -> Host:
        """Add a host, the nameserver first."""
        number = len(self._namespaces)
        host = Host(name, self._add(name), f"{_SUBNET}.{number}", self._switch)
        resolv = Path("/etc/netns", host.namespace, "resolv.conf")
        resolv.parent.mkdir(parents=True)
        resolv.write_text(f"nameserver {self.nameserver}\n")
        ip("link", "add", "eth0", "netns", host.namespace, "address", _mac(number),
           "type", "veth", "peer", "name", name, "netns", self._switch)  # fmt: skip
        ip("-n", self._switch, "link", "set", "dev", name, "master", "bridge", "up")
        # Who is beyond a router is not seen to be gone: no host ever asks whether another is still on the switch.
        known = [f"neigh add {_SUBNET}.{n} lladdr {_mac(n)} dev eth0 nud permanent" for n in range(1, _MOST_HOSTS)]
        here = ["link set lo up", "link set eth0 up", f"address add {host.address}/24 dev eth0", *known]
        ip("-n", host.namespace, "-batch", "-", batch="\n".join(here))
        return host

    def close(self) -> None:
        """Remove all of it; what still runs in it is ended."""
        for namespace in self._namespaces:
            end(map(int, ip("netns", "pids", namespace).split()))
            ip("netns", "delete", namespace)
            shutil.rmtree(Path("/etc/netns", namespace), ignore_errors=True)
        with suppress(OSError):
            Path("/etc/netns").rmdir()

    def _add(self, name: str) -> str:
        namespace = f"{self._name}-{name}"
        ip("netns", "add", namespace)
        self._namespaces.append(namespace)
        return namespace


def end(pids: Iterator[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _mac(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
