"""Containers out of what Linux has: an image's program as an engine would start it, in namespaces of its own.

Its files are the image's, read-only; what is writable is said. It runs as the image's user, without any capability, as
the first process, with an address of its own in a network that nothing else of the machine is part of.
"""

import os
import secrets
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

# What runs inside the namespaces: the mounts, then the program. Arguments: files, hosts file, then
# `-t FOLDER`s for memory and `-v SOURCE:FOLDER`s, `--`, and the command with its environment.
_ENTER = """
root=$1 hosts=$2; shift 2
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind -o ro /sys "$root/sys"
mount -t tmpfs -o size=64k,mode=755 tmpfs "$root/dev"
for name in null zero full random urandom; do touch "$root/dev/$name"; mount --bind "/dev/$name" "$root/dev/$name"; done
mkdir "$root/dev/shm"; mount -t tmpfs -o size=64m,mode=1777,nosuid,nodev,noexec tmpfs "$root/dev/shm"
mount --bind "$hosts" "$root/etc/hosts"
while [ "$1" != -- ]; do
    case $1 in
    -t) mount -t tmpfs -o size=256m,mode=1777,nosuid,nodev,noexec tmpfs "$root$2" ;;
    -v) mount --bind "${2%%:*}" "$root${2#*:}" ;;
    esac
    shift 2
done
shift
mount -o remount,bind,ro "$root"
hostname container
exec chroot "$root" env -i "$@"
"""


class Network:
    """A switch in a network namespace, which is also where callers from outside are; members have names."""

    def __init__(self, names: Sequence[str]) -> None:
        self._prefix = f"image-{secrets.token_hex(4)}"
        self._addresses = {name: f"10.77.0.{number}" for number, name in enumerate(names, start=2)}
        self._namespaces: list[str] = []

    def __enter__(self) -> "Network":
        """Lay the cables."""
        try:
            self._lay()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Take everything away."""
        for namespace in self._namespaces:
            _ip("netns", "delete", namespace)

    def at(self, name: str) -> list[str]:
        """Return the start of a command that is to run in a member's network; `outside` is the callers'."""
        return ["ip", "netns", "exec", f"{self._prefix}-{name}"]

    def address(self, name: str) -> str:
        """Return a member's address."""
        return self._addresses[name]

    def hosts(self) -> str:
        """Return what a hosts file says of the members."""
        return "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in self._addresses.items())

    def _lay(self) -> None:
        switch = self._add_namespace("outside")
        _ip("-n", switch, "link", "add", "switch", "type", "bridge")
        _ip("-n", switch, "address", "add", "10.77.0.1/24", "dev", "switch")
        _ip("-n", switch, "link", "set", "switch", "up")
        for name, address in self._addresses.items():
            member = self._add_namespace(name)
            peer = ("peer", "name", "eth0", "netns", member)
            _ip("-n", switch, "link", "add", f"to-{name}", "type", "veth", *peer)
            _ip("-n", switch, "link", "set", f"to-{name}", "master", "switch", "up")
            _ip("-n", member, "address", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", member, "link", "set", "eth0", "up")

    def _add_namespace(self, name: str) -> str:
        namespace = f"{self._prefix}-{name}"
        _ip("netns", "add", namespace)
        self._namespaces.append(namespace)
        _ip("-n", namespace, "link", "set", "lo", "up")
        return namespace


class Container:
    """A running program of an image. `config` is the image's as buildah has it (Env, Cmd, User, Healthcheck ...)."""

    def __init__(
        self,
        name: str,
        network: Network,
        root: Path,
        config: Mapping[str, Any],
        hosts: Path,
        *,
        environment: Mapping[str, str],
        tmpfs: Sequence[str],
        volumes: Mapping[str, Path],
        log: IO[bytes],
    ) -> None:
        self.name = name
        self._health: list[str] = config["Healthcheck"]["Test"]
        self._variables = [*config["Env"], *(f"{key}={value}" for key, value in environment.items())]
        user, _, group = config["User"].partition(":")
        self._drop = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--bounding-set=-all"]
        self._drop += ["--no-new-privs", "--"]
        mounts = [part for folder in tmpfs for part in ("-t", folder)]
        mounts += [part for folder, source in volumes.items() for part in ("-v", f"{source}:{folder}")]
        enter = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "sh", "-euc", _ENTER, "sh"]
        program = [*self._variables, *self._drop, *config["Entrypoint"], *config["Cmd"]]
        self._process = subprocess.Popen(
            [*network.at(name), *enter, str(root), str(hosts), *mounts, "--", *program],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        self._stop_signal = signal.Signals[config.get("StopSignal") or "SIGTERM"]

    @property
    def pid(self) -> int:
        """Return the id that its first process has on this machine; ProcessLookupError where it has ended."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children:
            raise ProcessLookupError(self.name)
        return int(children[0])

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self._process.poll() is not None

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as `docker exec` does."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--ipc", "--uts", "--net", "--root", "--wd"]
        return subprocess.run(
            [*enter, "env", "-i", *self._variables, *self._drop, *command], capture_output=True, text=True, timeout=60
        )

    def is_healthy(self) -> bool:
        """Run the image's own health check."""
        kind, *command = self._health
        assert kind == "CMD"
        try:
            return self.execute(*command).returncode == 0
        except (ProcessLookupError, FileNotFoundError):
            return False

    def stop(self, timeout_s: float) -> int:
        """Send the image's stop signal and return the exit status. Raises TimeoutExpired."""
        os.kill(self.pid, self._stop_signal)
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        """End it and all it has started, whatever state it is in."""
        self._process.kill()
        self._process.wait()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
