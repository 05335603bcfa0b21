"""The images, built for real, and the house that runs out of them."""

import json
import os
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from docker.images import build, house
from docker.images.house import House
from docker.images.storage import Storage, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"images cannot be built here: {missing()}")
_MB = 1_000_000
# Bytes of all files, the base image's 125 MB among them; a tenth above what was measured.
LARGEST_BYTES = {"edge": 395 * _MB, "asr": 940 * _MB, "diarize": 630 * _MB, "summarize": 310 * _MB}
_ENGINES = {"torch", "nemo", "transformers", "onnxruntime", "ctranslate2", "faster_whisper", "moonshine_voice", "av"}
# Which of them each image may hold; faster-whisper imports PyAV.
ENGINES = {
    "edge": {"av"},
    "asr": {"av", "ctranslate2", "faster_whisper", "moonshine_voice", "onnxruntime"},
    "diarize": {"moonshine_voice", "onnxruntime"},
    "summarize": set(),
}
WRITABLE = {name: {"/tmp"} for name in build.SERVICES} | {"edge": {"/tmp", "/data", "/spool"}}
STOP_S = 20.0
services = pytest.mark.parametrize("service", build.SERVICES)


@pytest.fixture(scope="module")
def roots(storage: Storage) -> Iterator[dict[str, Path]]:
    """The files of the images."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(storage.mounted(build.image_name(name, "cpu"))) for name in build.SERVICES}


@pytest.fixture(scope="module")
def running(storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The four containers and a store, healthy."""
    with house.running(storage, tmp_path_factory.mktemp("house")) as started:
        yield started


@services
def test_an_image_is_no_larger_than_it_has_to_be(storage: Storage, service: str) -> None:
    assert storage.size_bytes(build.image_name(service, "cpu")) < LARGEST_BYTES[service]


@services
def test_an_image_holds_its_own_engines_and_no_others(roots: dict[str, Path], service: str) -> None:
    (packages,) = roots[service].glob("opt/venv/lib/python3*/site-packages")
    assert _ENGINES & set(os.listdir(packages)) == ENGINES[service]


@services
def test_an_image_holds_its_own_code_and_no_other_services(roots: dict[str, Path], service: str) -> None:
    (package,) = roots[service].glob("opt/stt/services")
    assert {path.name for path in package.iterdir() if path.is_dir()} == {"common", service, "__pycache__"}


@services
def test_an_image_keeps_nothing_of_the_machine_that_built_it(roots: dict[str, Path], service: str) -> None:
    root = roots[service]
    left = [
        path
        for path in ("src", "opt/build", "tmp/wheels", "etc/pip.conf", "run/secrets", "root/.cache")
        if (root / path).exists()
    ]
    assert not left
    assert not (root / "opt/venv/bin/pip").exists()


@services
def test_an_image_has_no_file_that_lends_somebody_elses_rights(roots: dict[str, Path], service: str) -> None:
    files = (os.path.join(folder, name) for folder, _, names in os.walk(roots[service]) for name in names)
    assert not [path for path in files if os.lstat(path).st_mode & 0o6000]


@services
def test_an_image_says_who_it_is_and_how_it_ends(storage: Storage, service: str) -> None:
    config = storage.config(build.image_name(service, "cpu"))
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == ["tini", "--"]
    assert config["Cmd"] == ["python", "-m", f"services.{service}"]
    assert config["Labels"]["org.opencontainers.image.title"] == f"stt-{service}"
    assert config["Labels"]["org.opencontainers.image.version"] == project["version"]


@services
def test_a_container_runs_as_nobody_in_particular_without_capabilities(running: House, service: str) -> None:
    status = Path(f"/proc/{running.containers[service].pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert fields["Uid"].split() == ["10001"] * 4
    assert fields["Gid"].split() == ["10001"] * 4
    assert {int(fields[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == {0}
    assert fields["NSpid"].split()[-1] == "1"


@services
def test_a_container_can_write_nowhere_but_where_it_should(running: House, service: str) -> None:
    container = running.containers[service]
    found = container.execute("sh", "-c", "find / -xdev -writable ! -type l 2>/dev/null").stdout.split()
    assert set(found) == WRITABLE[service]
    for folder in WRITABLE[service]:
        assert container.execute("touch", f"{folder}/x").returncode == 0


@services
def test_a_container_is_healthy_by_its_own_check_and_says_what_it_measures(running: House, service: str) -> None:
    assert running.containers[service].is_healthy()
    assert "stt_build_info{" in running.get(f"http://{service}:9464/metrics")


def test_a_recording_becomes_words_with_speakers_and_a_summary(running: House, recordings: Path) -> None:
    made = running.containers["edge"].execute(
        *("python", "-m", "services.edge.accounts", "create", "--tier", "paid", "--credits", "10", "--json")
    )
    key = f"Authorization: Bearer {json.loads(made.stdout)['key']}"
    recording = recordings / "endgame_nagg_nell.wav"
    answer = json.loads(running.get("http://edge:8080/v1/transcribe", "-H", key, "-F", f"file=@{recording}"))
    assert "do you hear me" in answer["text"].lower()
    assert answer["speakers"] == ["Speaker 1", "Speaker 2"]
    assert {word["word"] for segment in answer["segments"] for word in segment["words"]}
    request = json.dumps({"text": answer["text"], "style": "brief"})
    json_body = ("-H", "Content-Type: application/json", "-d", request)
    assert json.loads(running.get("http://edge:8080/v1/summarize", "-H", key, *json_body))["summary"]


def test_containers_log_json_and_nothing_worse_than_information(running: House) -> None:
    lines = [json.loads(line) for service in build.SERVICES for line in running.log(service).splitlines()]
    assert {line["level"] for line in lines} == {"info"}


def test_containers_end_cleanly_when_they_are_told_to(storage: Storage, tmp_path: Path) -> None:
    with house.running(storage, tmp_path) as running:
        statuses = {service: container.stop(STOP_S) for service, container in running.containers.items()}
    assert statuses == dict.fromkeys(build.SERVICES, 0)
