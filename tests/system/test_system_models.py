"""`make run MODELS=small`, with its weights within reach and without."""

import io
import json
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.asr.models.catalog import catalog
from tests.asr.voices import say
from tests.hub import Hub, hub
from tests.models.whisper import save
from tests.system.conftest import started
from tests.system.stack import Stack


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Hub]:
    """A hub whose `small` hears the same in everything."""
    repository = save(tmp_path / "repository", "nothing but this")
    with hub({catalog(None)["small"].repository: repository}) as running:
        yield running


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(say("en", "We are going to the park.").tobytes())
    path = tmp_path / "recording.wav"
    path.write_bytes(data.getvalue())
    return path


def transcribed(stack: Stack, recording: Path, **fields: str) -> Any:
    form = [word for name, value in fields.items() for word in ("-F", f"{name}={value}")]
    key = f"Authorization: Bearer {stack.development_key()}"
    command = ["curl", "-s", "-H", key, f"{stack.url}/v1/transcribe", "-F", f"file=@{recording}", *form]
    return json.loads(subprocess.run(command, capture_output=True, timeout=60, check=True).stdout)


def test_whisper_answers_when_its_weights_are_within_reach(
    free_ports: list[int], tmp_path: Path, mirror: Hub, recording: Path
) -> None:
    settings = {"MODELS": "small", "ASR_LOAD_WAIT_S": "30", **mirror.environment(tmp_path)}
    for stack in started(free_ports, tmp_path, settings):
        answer = transcribed(stack, recording, model="small", language="en")
    assert (answer["model"], answer["text"]) == ("small", "nothing but this")
    assert answer["warnings"] == []


def test_the_embedded_model_answers_and_says_so_while_they_are_not(
    free_ports: list[int], tmp_path: Path, mirror: Hub, recording: Path
) -> None:
    mirror.stop()
    settings = {"MODELS": "small", "ASR_LOAD_WAIT_S": "0.1", **mirror.environment(tmp_path)}
    for stack in started(free_ports, tmp_path, settings):
        answer = transcribed(stack, recording, model="small", language="en")
    assert answer["model"] == "base"
    assert answer["warnings"] == ["The model small is not loaded here; base answered."]
