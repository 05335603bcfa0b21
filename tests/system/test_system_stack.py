"""The whole house, started, used, broken and ended as a newcomer would."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.embedded_store import valkey
from tests.system.conftest import started
from tests.system.stack import ROOT, STACK, START_LIMIT_S, Stack, accounts, environment


def test_the_printed_curl_line_gives_a_transcript_with_speakers(shared_stack: Stack) -> None:
    line = next(line for line in shared_stack.output().splitlines() if line.strip().startswith("curl "))
    assert "$(cat .data/development.key)" in line
    answer = subprocess.run(
        line, shell=True, cwd=shared_stack.folder, capture_output=True, timeout=60, check=True
    ).stdout
    transcript = json.loads(answer)
    assert transcript["speakers"] == ["Speaker 1", "Speaker 2"]
    assert transcript["duration"] == pytest.approx(28.28, abs=0.01)
    assert len(transcript["text"].split()) > 20


def test_a_newcomer_meets_neither_a_key_nor_a_warning_of_the_store(shared_stack: Stack) -> None:
    assert shared_stack.development_key() not in shared_stack.output()
    assert [line for line in shared_stack.output().splitlines() if re.match(r"\S+ store\.1 +\| ", line)] == []


def test_a_start_loses_no_replica(shared_stack: Stack) -> None:
    assert "replica lost" not in shared_stack.output()


def run_readme_example(marker: str, stack: Stack) -> list[str]:
    """Run the README's Python example that has `marker` in it, and return the lines it prints."""
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (example,) = [text for text in examples if marker in text]
    result = subprocess.run(
        [sys.executable, "-c", example], cwd=stack.folder, env=stack.env, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_the_grpc_example_of_the_readme_runs_as_it_stands(shared_stack: Stack) -> None:
    *lines, headline = run_readme_example("AsrServiceStub", shared_stack)
    assert any(line.endswith("speaker 1") for line in lines)
    assert any(re.match(r" *\d+\.\d\d +\d+\.\d\d +[A-Z]", line) for line in lines)
    assert headline


def test_the_live_example_of_the_readme_prints_interim_text_before_segments(shared_stack: Stack) -> None:
    lines = run_readme_example("/v1/stream", shared_stack)
    segments = [line for line in lines if re.match(r" *\d+\.\d\d +\d+\.\d\d +[A-Z]", line)]
    interim = [line for line in lines if line.startswith(" " * 12)]
    assert len(segments) >= 5
    assert lines.index(interim[0]) < lines.index(segments[0])


def transcribe(stack: Stack, key: str, recording: Path) -> int:
    """The status of a transcription."""
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"Authorization: Bearer {key}",
               f"{stack.url}/v1/transcribe", "-F", f"file=@{recording}", "-F", "diarize=false"]  # fmt: skip
    return int(subprocess.run(command, capture_output=True, timeout=60, check=True).stdout)


def assert_ended(stack: Stack, everything: list[psutil.Process]) -> None:
    """Nothing of a house that was interrupted is left after 5 s."""
    stack.interrupt()
    stack.process.wait(5)
    assert psutil.wait_procs(everything, timeout=0.5)[1] == []
    assert not (stack.data_dir / "valkey.sock").exists()


def test_ctrl_c_ends_everything_within_five_seconds(stack: Stack) -> None:
    everything = stack.descendants()
    assert len(everything) >= 6
    assert_ended(stack, everything)


def test_ctrl_c_ends_everything_while_a_recording_is_transcribed_and_settles_it(stack: Stack, recordings: Path) -> None:
    account = accounts(stack.env, "create", "--tier", "paid", "--credits", "100")
    curl = subprocess.Popen(
        ["curl", "-sN", "-H", "Accept: text/event-stream", "-H", f"Authorization: Bearer {account['key']}",
         f"{stack.url}/v1/transcribe", "-F", f"file=@{recordings / 'two_cities.wav'}"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert curl.stdout is not None
    assert b"event: " in curl.stdout.readline()
    assert_ended(stack, stack.descendants())
    curl.wait(5)
    curl.stdout.close()
    with valkey(stack.data_dir):
        left = accounts(stack.env, "show", account["account"])
        assert (left["held"], left["running"]) == (0, 0)
        assert accounts(stack.env, "audit")["ok"]


def test_when_diarization_is_killed_the_runner_ends_the_rest_and_fails(stack: Stack) -> None:
    everything = stack.descendants()
    stack.program("diarize").kill()
    assert stack.process.wait(10) != 0
    assert psutil.wait_procs(everything, timeout=0.5)[1] == []


def test_a_killed_store_comes_back_with_every_credit(stack: Stack, recordings: Path) -> None:
    account = accounts(stack.env, "create", "--tier", "paid", "--credits", "50")
    stack.server().kill()
    during = transcribe(stack, account["key"], recordings / "beckett.wav")
    assert during in {200, 503}
    deadline = time.monotonic() + 10
    while transcribe(stack, account["key"], recordings / "beckett.wav") != 200:
        assert time.monotonic() < deadline, stack.output()
    # The answer is written before it is settled.
    while (shown := accounts(stack.env, "show", account["account"]))["held"]:
        assert time.monotonic() < deadline, stack.output()
    assert shown["credits"] == 50 - 1 - (during == 200)
    assert accounts(stack.env, "audit")["ok"]


def test_with_a_store_of_ones_own_none_is_started(free_ports: list[int], tmp_path: Path) -> None:
    with (
        valkey(tmp_path / "own"),
        contextmanager(started)(free_ports, tmp_path, {"REDIS_URL": f"unix://{tmp_path}/own/valkey.sock"}) as stack,
    ):
        assert [p for p in stack.descendants() if p.name() == "valkey-server"] == []
        assert (stack.data_dir / "development.key").exists()
        assert not (stack.data_dir / "valkey.sock").exists()


def test_a_second_house_on_the_same_data_is_refused_in_a_sentence(shared_stack: Stack, free_ports: list[int]) -> None:
    result = subprocess.run(
        [str(STACK), "run"], env=environment(free_ports, shared_stack.data_dir),
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr == f"Another store runs in {shared_stack.data_dir}; DATA_DIR chooses another folder.\n"


def test_a_taken_port_is_one_sentence_that_names_the_setting(free_ports: list[int], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", free_ports[1])):
        result = subprocess.run(
            [str(STACK), "run"], env=environment(free_ports, tmp_path), capture_output=True, text=True, timeout=30
        )
    assert result.returncode == 1
    assert f"127.0.0.1:{free_ports[1]} (ASR_PORT)" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("setting", "value"), [("EDGE_PORT", "abc"), ("ASR_METRICS_PORT", "70000"), ("DIARIZE_MAX_REQUESTS", "many")]
)
def test_a_bad_setting_of_any_program_is_one_sentence_that_names_it(
    free_ports: list[int], tmp_path: Path, setting: str, value: str
) -> None:
    env = environment(free_ports, tmp_path) | {setting: value}
    result = subprocess.run([str(STACK), "run"], env=env, capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"{setting}: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_missing_python_is_one_sentence(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "protos/generate.py", "docker/asr/requirements-whisper-base.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    result = subprocess.run(
        ["make", "-f", str(ROOT / "Makefile"), "run", "PYTHON="],
        cwd=tmp_path, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert result.returncode != 0
    assert "Python 3.11 or newer is needed" in result.stdout


@pytest.fixture
def background(free_ports: list[int], tmp_path: Path) -> Iterator[dict[str, str]]:
    env = environment(free_ports, tmp_path / "data") | {"STACK_STATE": str(tmp_path / "run")}
    yield env
    subprocess.run([str(STACK), "down"], env=env, timeout=30, check=False)


def stack_sh(command: str, env: dict[str, str]) -> None:
    result = subprocess.run([str(STACK), command], env=env, capture_output=True, text=True, timeout=START_LIMIT_S)
    assert result.returncode == 0, result.stdout + result.stderr


def test_up_returns_when_healthy_and_down_leaves_nothing_running(background: dict[str, str]) -> None:
    stack_sh("up", background)
    url = f"http://127.0.0.1:{background['EDGE_PORT']}/health"
    with urllib.request.urlopen(url, timeout=5) as answer:
        assert json.load(answer)["status"] == "ok"
    runner = psutil.Process(int(Path(background["STACK_STATE"], "pid").read_text()))
    everything = [runner, *runner.children(recursive=True)]
    stack_sh("down", background)
    assert psutil.wait_procs(everything, timeout=0.5)[1] == []


def test_accounts_outlive_down_and_up(background: dict[str, str]) -> None:
    stack_sh("up", background)
    account = accounts(background, "create", "--tier", "paid", "--credits", "7")
    key = Path(background["DATA_DIR"], "development.key").read_text()
    stack_sh("down", background)
    stack_sh("up", background)
    shown = accounts(background, "show", account["account"])
    assert (shown["tier"], shown["credits"], shown["held"]) == ("paid", 7, 0)
    assert Path(background["DATA_DIR"], "development.key").read_text() == key


def test_up_that_cannot_start_says_why_and_fails(background: dict[str, str]) -> None:
    up = subprocess.run(
        [str(STACK), "up"], env=background | {"ASR_IDLE_TIMEOUT_S": "never"},
        capture_output=True, text=True, timeout=START_LIMIT_S,
    )  # fmt: skip
    assert up.returncode != 0
    assert "ASR_IDLE_TIMEOUT_S" in up.stderr
