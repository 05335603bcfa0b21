"""The whole house, started, used, broken and ended as a newcomer would."""

import json
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.system.stack import ROOT, STACK, START_LIMIT_S, Stack, environment


def test_the_printed_curl_line_gives_a_transcript_with_speakers(shared_stack: Stack) -> None:
    line = next(line for line in shared_stack.output().splitlines() if line.strip().startswith("curl "))
    answer = subprocess.run(line, shell=True, capture_output=True, timeout=60, check=True).stdout
    transcript = json.loads(answer)
    assert transcript["speakers"] == ["Speaker 1", "Speaker 2"]
    assert transcript["duration"] == pytest.approx(28.28, abs=0.01)
    assert len(transcript["text"].split()) > 20


def run_readme_example(marker: str, stack: Stack) -> list[str]:
    """Run the README's Python example that has `marker` in it, and return the lines it prints."""
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (example,) = [text for text in examples if marker in text]
    result = subprocess.run([sys.executable, "-c", example], env=stack.env, capture_output=True, text=True, timeout=60)
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


def test_ctrl_c_ends_everything_within_five_seconds(stack: Stack) -> None:
    everything = stack.descendants()
    assert len(everything) >= 5
    stack.interrupt()
    stack.process.wait(5)
    assert psutil.wait_procs(everything, timeout=0.5)[1] == []


def test_ctrl_c_ends_everything_while_a_recording_is_transcribed(stack: Stack, recordings: Path) -> None:
    everything = stack.descendants()
    curl = subprocess.Popen(
        ["curl", "-sN", "-H", "Accept: text/event-stream", f"{stack.url}/v1/transcribe",
         "-F", f"file=@{recordings / 'two_cities.wav'}"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert curl.stdout is not None
    assert curl.stdout.readline()
    everything = stack.descendants()
    stack.interrupt()
    stack.process.wait(5)
    assert psutil.wait_procs(everything, timeout=0.5)[1] == []
    curl.wait(5)
    curl.stdout.close()


def test_when_diarization_is_killed_the_runner_ends_the_rest_and_fails(stack: Stack) -> None:
    everything = stack.descendants()
    stack.program("diarize").kill()
    assert stack.process.wait(10) != 0
    assert psutil.wait_procs(everything, timeout=0.5)[1] == []


def test_a_taken_port_is_one_sentence_that_names_the_setting(free_ports: list[int]) -> None:
    with socket.create_server(("127.0.0.1", free_ports[1])):
        result = subprocess.run(
            [str(STACK), "run"], env=environment(free_ports), capture_output=True, text=True, timeout=30
        )
    assert result.returncode == 1
    assert f"127.0.0.1:{free_ports[1]} (ASR_PORT)" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_missing_python_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "protos").mkdir()
    for name in ("pyproject.toml", "protos/generate.py"):
        (tmp_path / name).touch()
    result = subprocess.run(
        ["make", "-f", str(ROOT / "Makefile"), "run", "PYTHON="],
        cwd=tmp_path, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert result.returncode != 0
    assert "Python 3.11 or newer is needed" in result.stdout


@pytest.fixture
def background(free_ports: list[int], tmp_path: Path) -> Iterator[dict[str, str]]:
    env = environment(free_ports) | {"STACK_STATE": str(tmp_path / "run")}
    yield env
    subprocess.run([str(STACK), "down"], env=env, timeout=30, check=False)


def test_up_returns_when_healthy_and_down_leaves_nothing_running(background: dict[str, str]) -> None:
    up = subprocess.run([str(STACK), "up"], env=background, capture_output=True, text=True, timeout=START_LIMIT_S)
    assert up.returncode == 0, up.stdout + up.stderr
    url = f"http://127.0.0.1:{background['EDGE_PORT']}/health"
    with urllib.request.urlopen(url, timeout=5) as answer:
        assert json.load(answer)["status"] == "ok"
    runner = psutil.Process(int(Path(background["STACK_STATE"], "pid").read_text()))
    everything = [runner, *runner.children(recursive=True)]
    down = subprocess.run([str(STACK), "down"], env=background, capture_output=True, text=True, timeout=30)
    assert down.returncode == 0
    assert psutil.wait_procs(everything, timeout=0.5)[1] == []


def test_up_that_cannot_start_says_why_and_fails(background: dict[str, str]) -> None:
    up = subprocess.run(
        [str(STACK), "up"], env=background | {"ASR_IDLE_TIMEOUT_S": "never"},
        capture_output=True, text=True, timeout=START_LIMIT_S,
    )  # fmt: skip
    assert up.returncode != 0
    assert "ASR_IDLE_TIMEOUT_S" in up.stderr
