"""A Docker engine of a test's own, which ends with it: its networks, ports, mounts and processes are in namespaces."""

import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from docker.images.storage import Storage

_READY_S = 30.0
_STOP_S = 60.0
_POLL_S = 0.1
_COMMAND_LIMIT_S = 300.0
# A containerd that runs here would be used; this engine starts its own, and ends it.
_START = '[ ! -d /run/containerd ] || mount -t tmpfs tmpfs /run/containerd; exec dockerd "$@"'
_OLDEST_COMPOSE = (2, 20)  # the first that knows `required` below `depends_on`


def missing() -> str:
    """Return what of Docker is not here, in words; empty: nothing. Whether it works, only trying tells."""
    lacking = [name for name in ("dockerd", "docker", "setpriv", "nsenter", "ip") if shutil.which(name) is None]
    if lacking:
        return f"no {' and no '.join(lacking)}"
    asked = subprocess.run(["docker", "compose", "version", "--short"], capture_output=True, text=True)
    version = re.match(r"v?(\d+)\.(\d+)", asked.stdout)
    if version is None or tuple(map(int, version.groups())) < _OLDEST_COMPOSE:
        return "no Docker Compose of 2.20 or newer"
    return ""


class EngineError(Exception):
    """No engine runs here; says why."""


class Engine:
    """A running engine."""

    def __init__(self, socket: Path, namespace: Path) -> None:
        # No variable of the shell is to change what compose.yaml says.
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self._environment = {**kept, "DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "0"}
        self._at = ["nsenter", f"--net={namespace}"]

    def docker(self, *arguments: str | Path, **environment: str) -> str:
        """Run a command of docker and return what it printed. Raises CalledProcessError, having printed its errors."""
        command = ["docker", *map(str, arguments)]
        return subprocess.run(
            command,
            env=self._environment | environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=_COMMAND_LIMIT_S,
        ).stdout

    def get(self, url: str, *options: str) -> str:
        """Ask with curl from the machine that the engine runs on. Raises CalledProcessError unless it is a 2xx."""
        command = [*self._at, "curl", "--noproxy", "*", "--silent", "--show-error", "--fail-with-body", *options, url]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=_COMMAND_LIMIT_S).stdout

    def clear(self) -> None:
        """Remove all containers."""
        if containers := self.docker("ps", "--all", "--quiet").split():
            self.docker("rm", "--force", "--volumes", *containers)

    def take(self, storage: Storage, name: str) -> None:
        """Have an image that buildah made. Raises LookupError where it did not."""
        image = storage.image(name)
        if image is None:
            raise LookupError(name)
        found = self.docker("images", "--quiet", "--no-trunc", name).split()
        if found == [f"sha256:{image['FromImageID']}"]:
            return
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder, "image.tar")
            storage.buildah("push", "--quiet", name, f"docker-archive:{archive}:{name}")
            self.docker("load", "--quiet", "--input", archive)
        self.docker("image", "prune", "--force")


@contextmanager
def running(folder: Path) -> Iterator[Engine]:
    """Start an engine that keeps its images in `folder`, and end it. Raises EngineError where none can run."""
    name = f"engine-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory() as run:
        subprocess.run(["ip", "netns", "add", name], check=True)
        try:
            subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
            engine = Engine(Path(run, "docker.sock"), Path("/run/netns", name))
            log = Path(run, "log")
            with log.open("wb") as file:
                process = _start(Path("/run/netns", name), folder, Path(run), file)
                try:
                    _wait(engine, process, log)
                    engine.clear()  # an engine that was killed has left its own
                    try:
                        yield engine
                    finally:
                        engine.clear()
                finally:
                    _end(process)
        finally:
            subprocess.run(["ip", "netns", "delete", name], check=True)


def _start(namespace: Path, folder: Path, run: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    settings = run / "daemon.json"
    settings.write_text("{}")
    options = [f"--host=unix://{run / 'docker.sock'}", f"--data-root={folder}", f"--exec-root={run / 'exec'}"]
    options += [f"--pidfile={run / 'pid'}", f"--config-file={settings}", "--shutdown-timeout=5"]
    # Whoever kills this process ends dockerd, the first of its namespace, and so all that dockerd has started.
    enter = ["setpriv", "--pdeathsig=KILL", "nsenter", f"--net={namespace}"]
    enter += ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return subprocess.Popen([*enter, "sh", "-c", _START, "sh", *options], stdout=log, stderr=log)


def _end(process: subprocess.Popen[bytes]) -> None:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def _wait(engine: Engine, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            engine.docker("version", "--format", "{{.Server.Version}}")
        except subprocess.CalledProcessError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise EngineError(log.read_text().strip().rpartition("\n")[2]) from None
            time.sleep(_POLL_S)
        else:
            return
