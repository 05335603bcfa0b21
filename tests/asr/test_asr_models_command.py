"""`python -m services.asr.models` as a process, against a hub on this machine."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hub import Hub, hub

REPOSITORY = "Systran/faster-whisper-small"
FILES = ("config.json", "preprocessor_config.json", "tokenizer.json", "vocabulary.json", "model.bin")
# In the middle of the weights' bytes.
HALF = 3_000_000
SIZE = "7"

Done = subprocess.CompletedProcess[str]
Call = Callable[..., Done]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def mirror(untrained: Path) -> Iterator[Hub]:
    with hub({REPOSITORY: untrained}) as running:
        yield running


@pytest.fixture
def start(mirror: Hub, tmp_path: Path) -> Start:
    """Starts a command as a shell would."""

    def start(*arguments: str, **settings: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "services.asr.models", *arguments],
            env={**os.environ, "MODEL_DIR": "", **mirror.environment(tmp_path / "home"), **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def call(start: Start) -> Call:
    """Runs a command to its end."""

    def call(*arguments: str, **settings: str) -> Done:
        process = start(*arguments, **settings)
        stdout, stderr = process.communicate(timeout=30)
        return Done(arguments, process.returncode, stdout, stderr)

    return call


def row(listed: Done, model: str) -> str:
    """What `list` says of a model."""
    assert listed.returncode == 0
    (line,) = (line for line in listed.stdout.splitlines() if line.startswith(f"{model} "))
    return " ".join(line.split()[1:])


def wait_until_half_is_written(mirror: Hub) -> None:
    """Return when a pull of what stalls after that asks for the rest."""
    mirror.wait_until(lambda: f"bytes={HALF}-" in mirror.ranges())


def fails_in_a_sentence(done: Done) -> str:
    assert (done.returncode, done.stdout) == (1, "")
    sentence = done.stderr.strip()
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_pull_brings_what_list_then_shows_as_here(call: Call, mirror: Hub, untrained: Path) -> None:
    pulled = call("pull", "small")
    assert (pulled.returncode, pulled.stderr) == (0, "")
    folder = Path(pulled.stdout.strip().split(" in ")[1])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: (untrained / name).read_bytes() for name in FILES
    }
    listed = call("list")
    assert row(listed, "small") == f"here {SIZE} {mirror.url}/{REPOSITORY}"
    assert row(listed, "moonshine-tiny-en") == "here the software itself"
    assert row(listed, "medium") == f"not here {mirror.url}/Systran/faster-whisper-medium"


def test_a_pull_that_is_cut_off_says_so_and_the_next_goes_on_where_it_was(call: Call, mirror: Hub) -> None:
    mirror.faults.cut_after_bytes = HALF
    assert "cut model.bin off" in fails_in_a_sentence(call("pull", "small"))
    asked = len(mirror.ranges())
    mirror.faults.cut_after_bytes = None
    assert call("pull", "small").returncode == 0
    assert mirror.ranges()[asked:] == [f"bytes={HALF}-"]


def test_after_a_pull_that_was_killed_the_next_goes_on_where_it_was(start: Start, call: Call, mirror: Hub) -> None:
    mirror.faults.stall_after_bytes = HALF
    with start("pull", "small") as process:
        wait_until_half_is_written(mirror)
        process.kill()
    mirror.faults.stall_after_bytes = None
    asked = len(mirror.ranges())
    assert call("pull", "small").returncode == 0
    assert mirror.ranges()[asked:] == [f"bytes={HALF}-"]


def test_a_pull_that_is_interrupted_shows_no_traceback(start: Start, mirror: Hub) -> None:
    mirror.faults.stall_after_bytes = HALF
    process = start("pull", "small", HF_HUB_DOWNLOAD_TIMEOUT="5")
    wait_until_half_is_written(mirror)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert (process.returncode, said.strip()) == (130, "Stopped; the same command goes on from here.")


def test_two_pulls_at_once_bring_the_weights_once(start: Start, mirror: Hub) -> None:
    mirror.faults.stall_after_bytes = HALF
    both = [start("pull", "small", HF_HUB_DOWNLOAD_TIMEOUT="20") for _ in range(2)]
    mirror.wait_until(lambda: [r.method for r in mirror.requests if r.path.endswith("model.bin")].count("HEAD") == 2)
    mirror.faults.release.set()
    assert [process.communicate(timeout=20)[1] for process in both] == ["", ""]
    assert [process.returncode for process in both] == [0, 0]
    assert mirror.ranges() == [""]


def test_a_hub_that_is_not_there_is_a_sentence(call: Call, mirror: Hub) -> None:
    mirror.stop()
    assert f"{mirror.url} cannot be reached" in fails_in_a_sentence(call("pull", "small"))


def test_offline_is_a_sentence_and_asks_nobody(call: Call, mirror: Hub) -> None:
    assert "HF_HUB_OFFLINE" in fails_in_a_sentence(call("pull", "small", HF_HUB_OFFLINE="1"))
    assert mirror.requests == []


def test_folders_of_models_are_listed_and_need_no_pull(
    call: Call, mirror: Hub, tmp_path: Path, untrained: Path
) -> None:
    for name in ("mine", "small"):
        (tmp_path / name).symlink_to(untrained)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    shutil.copy(untrained / "model.bin", tmp_path / "other")
    listed = call("list", MODEL_DIR=str(tmp_path))
    assert row(listed, "mine") == f"here {SIZE} {tmp_path}/mine"
    assert row(listed, "small") == f"here {SIZE} {tmp_path}/small"
    assert row(listed, "other") == f"broken: There is no config.json. {tmp_path}/other"
    assert "empty" not in listed.stdout
    pulled = call("pull", "mine", "moonshine-tiny-en", MODEL_DIR=str(tmp_path))
    assert (pulled.returncode, pulled.stdout.count("nothing to pull")) == (0, 2)
    verified = call("verify", "mine", "other", "moonshine-tiny-en", "medium", MODEL_DIR=str(tmp_path))
    assert verified.returncode == 1
    assert verified.stdout.splitlines() == [
        "mine: whole",
        "other: There is no config.json.",
        "moonshine-tiny-en: nothing to verify, it comes from the software itself.",
        "medium: Its files are not here.",
    ]
    assert verified.stderr == "Not whole: other, medium.\n"
    assert mirror.requests == []


def test_verify_says_what_only_loading_shows(call: Call, tmp_path: Path, untrained: Path) -> None:
    shutil.copytree(untrained, tmp_path / "mine")
    (tmp_path / "mine" / "tokenizer.json").write_text("{}")
    verified = call("verify", "mine", MODEL_DIR=str(tmp_path))
    assert (verified.returncode, len(verified.stdout.splitlines())) == (1, 1)
    assert "mine: It cannot be loaded: " in verified.stdout
    assert verified.stderr == "Not whole: mine.\n"


def test_a_folder_of_models_that_is_not_there_is_a_sentence(call: Call, tmp_path: Path) -> None:
    sentence = fails_in_a_sentence(call("list", MODEL_DIR=str(tmp_path / "none")))
    assert sentence == f"{tmp_path}/none: No such file or directory."


def test_a_model_that_is_not_known_is_answered_with_those_that_are(call: Call) -> None:
    refused = call("pull", "small", "huge")
    assert refused.returncode == 2
    assert "there is no model huge; there are: large-v3-turbo, large-v3, medium, small, base, moon" in refused.stderr


def test_help_says_what_is_read_from_the_environment(call: Call) -> None:
    helped = call("--help")
    assert helped.returncode == 0
    assert all(name in helped.stdout for name in ("pull", "verify", "MODEL_DIR", "HF_ENDPOINT", "HF_HUB_OFFLINE"))
