"""The vendor's Python SDK from PyPI, unmodified, against the real house."""

import time
import wave
from pathlib import Path
from typing import Any

import pytest
from sttai import STTClient
from sttai.exceptions import AuthError, CreditError, STTError

from tests.system.stack import Stack, accounts

SPOKEN = "no matter"
BYTES_PER_S = 32_000


@pytest.fixture
def client(house: str, key: str) -> STTClient:
    return STTClient(key, base_url=house, timeout=60)


@pytest.fixture(scope="module")
def beckett(recordings: Path) -> Path:
    return recordings / "beckett.wav"


@pytest.fixture(scope="module")
def pcm(beckett: Path) -> bytes:
    with wave.open(str(beckett)) as recording:
        return recording.readframes(recording.getnframes())


def test_transcribe(client: STTClient, recordings: Path) -> None:
    result = client.transcribe(str(recordings / "endgame_nagg_nell.wav"), speakers=2)
    assert result["speakers"] == ["Speaker 1", "Speaker 2"]
    assert "do you hear me" in result["text"].lower()


@pytest.mark.parametrize(("response_format", "begins"), [("srt", "1\n00:00:"), ("vtt", "WEBVTT"), ("text", "Ever")])
def test_transcribe_to_a_document(client: STTClient, beckett: Path, response_format: str, begins: str) -> None:
    result = client.transcribe(str(beckett), diarize=False, response_format=response_format)
    assert result["text"].startswith(begins)


def test_summarize(client: STTClient) -> None:
    text = "The budget was agreed on. Anna will send the contract by Friday. The weather was fine."
    result = client.summarize(text, style="bullets")
    assert result["style"] == "bullets"
    assert result["summary"]


def test_models(client: STTClient) -> None:
    ids = [model["id"] for model in client.models()["models"]]
    assert ids[:4] == ["large-v3-turbo", "large-v3", "medium", "small"]


def test_languages(client: STTClient) -> None:
    assert {"code": "en", "name": "english"} in client.languages()["languages"]


def test_health(client: STTClient) -> None:
    assert client.health()["status"] == "ok"


def test_a_wrong_parameter_is_an_error_with_the_servers_sentence(client: STTClient, beckett: Path) -> None:
    with pytest.raises(STTError, match="Unknown model") as caught:
        client.transcribe(str(beckett), model="nonsense")
    assert caught.value.status_code == 400


def test_a_wrong_key_is_the_sdks_auth_error(house: str, beckett: Path) -> None:
    with pytest.raises(AuthError):
        STTClient("a-key", base_url=house, timeout=60).transcribe(str(beckett))


def test_an_account_without_credits_is_the_sdks_credit_error(stack: Stack, beckett: Path) -> None:
    account = accounts(stack.env, "create", "--tier", "paid", "--credits", "0")
    with pytest.raises(CreditError, match="No credits remaining"):
        STTClient(account["key"], base_url=stack.url, timeout=60).transcribe(str(beckett))


@pytest.mark.parametrize(("pace", "seconds"), [(0.0, 10), (1.0, 7)])
def test_stream_as_fast_as_it_goes_and_at_a_microphones_pace(
    client: STTClient, pcm: bytes, pace: float, seconds: int
) -> None:
    heard: list[dict[str, Any]] = []
    session = client.stream(heard.append, language="en")
    for start in range(0, seconds * BYTES_PER_S, 4_096):
        session.send(pcm[start : start + 4_096])
        time.sleep(pace * 4_096 / BYTES_PER_S)
    result = session.finish()
    assert SPOKEN in result["text"].lower()
    assert all({"type", "text"} <= set(message) for message in heard)
    assert heard[-1] == result
    assert [m["type"] for m in heard].count("final") == 1
    assert " ".join(m["text"] for m in heard if m["type"] == "transcript") == result["text"]
    if pace:
        kinds = [m["type"] for m in heard]
        assert kinds.index("partial") < kinds.index("transcript")


def test_a_streams_key_is_in_no_log(client: STTClient, key: str, stack: Stack) -> None:
    client.stream(lambda message: None).finish()
    assert "stream" in stack.output()
    assert key not in stack.output()


def test_stream_without_a_word(client: STTClient) -> None:
    session = client.stream(lambda message: None)
    session.send(bytes(2 * BYTES_PER_S))
    assert session.finish()["text"] == ""


def test_a_stream_that_is_refused_says_why(client: STTClient) -> None:
    session = client.stream(lambda message: None, model="nonsense")
    with pytest.raises(STTError, match="400"):
        session.send(b"\0\0")
    session.close()
