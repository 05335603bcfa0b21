"""Real recordings through the edge and the real services behind it."""

import json
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.edge.conftest import Answer, Edge, silence
from tests.edge.media.muxing import RATE, Sound, mux
from tests.edge.media.test_media_containers import KINDS

CONTRACT_KINDS = [
    "mp3",
    "wav",
    "flac",
    "ogg",
    "m4a",
    "aac",
    "opus",
    "wma",
    "mp4",
    "webm",
    "mkv",
    "avi",
    "mov",
    "wmv",
    "mpg",
    "mpeg",
]
ENGLISH = "moonshine-tiny-en"


@pytest.fixture(scope="session")
def dialogue(recordings: Path) -> bytes:
    """Nagg and Nell, in turns."""
    return (recordings / "endgame_nagg_nell.wav").read_bytes()


@pytest.fixture(scope="session")
def monologue(recordings: Path) -> bytes:
    """One voice, ten seconds."""
    return (recordings / "beckett.wav").read_bytes()


@pytest.mark.parametrize("kind", CONTRACT_KINDS)
async def test_every_container_of_the_contract_is_transcribed(
    real_edge: Edge, encode: Callable[..., bytes], kind: str
) -> None:
    answer = await real_edge.transcribe(encode(**KINDS[kind]), filename=f"x.{kind}", diarize="false")
    assert answer.status == 200
    assert "fail better" in answer.json["text"].lower()
    assert abs(answer.json["duration"] - 9.96) < 0.2


async def test_a_dialogue_comes_back_with_its_two_speakers(real_edge: Edge, dialogue: bytes) -> None:
    answer = await real_edge.transcribe(dialogue, model=ENGLISH, language="en", speakers="2")
    content = answer.json
    assert list(content) == ["text", "language", "duration", "segments", "speakers", "model", "warnings"]
    assert (content["language"], content["model"], content["warnings"]) == ("en", ENGLISH, [])
    assert content["duration"] == 28.277
    assert content["speakers"] == ["Speaker 1", "Speaker 2"]
    assert "do you hear me" in content["text"].lower()
    by_speaker = {s["text"].lower(): s["speaker"] for s in content["segments"]}
    assert by_speaker["do you hear me?"] == "Speaker 1"
    assert len({s["speaker"] for s in content["segments"]}) == 2
    assert content["text"] == " ".join(s["text"] for s in content["segments"])
    for segment in content["segments"]:
        assert set(segment) - {"timing"} == {"start", "end", "text", "speaker", "confidence", "words"}
        assert 0 < segment["confidence"] <= 1
        assert segment["start"] == segment["words"][0]["start"]
        assert segment["end"] == segment["words"][-1]["end"]
    words = [w for s in content["segments"] for w in s["words"]]
    assert all(set(w) == {"word", "start", "end", "confidence"} and w["start"] <= w["end"] for w in words)
    assert all(before["end"] <= after["start"] for before, after in pairwise(words))
    assert words[-1]["end"] <= content["duration"]


async def test_a_contract_model_without_weights_is_answered_by_the_fallback_which_is_named(
    real_edge: Edge, monologue: bytes
) -> None:
    content = (await real_edge.transcribe(monologue, model="large-v3-turbo", diarize="false")).json
    assert content["model"] == ENGLISH
    assert any("large-v3-turbo" in warning for warning in content["warnings"])


@pytest.mark.parametrize(("model", "status"), [("large-v3-turbo", 503), (ENGLISH, 400)])
async def test_a_language_the_model_does_not_know_is_refused(
    real_edge: Edge, monologue: bytes, model: str, status: int
) -> None:
    answer = await real_edge.transcribe(monologue, model=model, language="de")
    assert answer.status == status
    assert answer.json["error"]
    assert ("Retry-After" in answer.headers) == (status == 503)


async def test_what_the_model_cannot_use_is_a_warning_and_what_it_cannot_do_is_refused(
    real_edge: Edge, monologue: bytes
) -> None:
    wanted = {"model": ENGLISH, "language": "en", "diarize": "false"}
    answer = await real_edge.transcribe(monologue, keywords="Beckett", **wanted)
    assert (answer.status, len(answer.json["warnings"])) == (200, 1)
    refused = await real_edge.transcribe(monologue, task="translate", **wanted)
    assert (refused.status, refused.json["code"]) == (400, "INVALID_REQUEST")
    assert "translate" in refused.json["error"]


@pytest.mark.parametrize(
    ("response_format", "content_type", "begins"),
    [
        ("txt", "text/plain", "Ever tried"),
        ("text", "text/plain", "Ever tried"),
        ("srt", "application/x-subrip", "1\n00:00:0"),
        ("vtt", "text/vtt", "WEBVTT\n\n00:00:0"),
        ("verbose_json", "application/json", "{"),
    ],
)
async def test_documents_come_as_themselves_but_to_the_vendors_sdk_as_json(
    real_edge: Edge, monologue: bytes, response_format: str, content_type: str, begins: str
) -> None:
    async def ask(agent: str) -> Answer:
        headers = {"User-Agent": agent}
        return await real_edge.transcribe(monologue, headers, diarize="false", response_format=response_format)

    plain, sdk = await ask("curl/8"), await ask("stt-ai-python/0.1.0")
    assert plain.headers["Content-Type"] == f"{content_type}; charset=utf-8"
    assert plain.body.decode().startswith(begins)
    assert sdk.headers["Content-Type"].startswith("application/json")
    if response_format != "verbose_json":
        assert list(sdk.json) == ["text"]
        assert sdk.json["text"].startswith(begins)


async def test_events_show_segments_and_end_with_the_transcript(real_edge: Edge, monologue: bytes) -> None:
    answer = await real_edge.transcribe(monologue, {"Accept": "text/event-stream"}, model=ENGLISH)
    events = [event.split("\n") for event in answer.body.decode().strip().split("\n\n")]
    names = [name.removeprefix("event: ") for name, _ in events]
    assert names.index("segment") < names.index("result") == len(names) - 1
    heard = [json.loads(data.removeprefix("data: "))["text"] for name, data in events if name == "event: segment"]
    assert " ".join(heard) == json.loads(events[-1][1].removeprefix("data: "))["text"]


async def test_the_words_of_a_late_track_come_when_the_video_presents_them(real_edge: Edge, speech: np.ndarray) -> None:
    late = Sound(np.concatenate([np.zeros(5 * RATE, np.int16), speech]), left_out=((-1, 5),))
    video = mux("mp4", late, video="mpeg4", video_s=15)
    plain = await real_edge.transcribe(mux("mp4", Sound(speech)), model=ENGLISH, diarize="false")
    answer = await real_edge.transcribe(video, model=ENGLISH, diarize="false")
    assert "fail better" in answer.json["text"].lower()
    assert answer.json["segments"][0]["start"] == pytest.approx(plain.json["segments"][0]["start"] + 5, abs=0.2)


async def test_one_person_on_each_track_gives_both(real_edge: Edge, speech: np.ndarray) -> None:
    half = len(speech) // 2
    first, second = speech.copy(), speech.copy()
    first[half:], second[:half] = 0, 0
    content = mux("mp4", Sound(first), Sound(second))
    answer = await real_edge.transcribe(content, model=ENGLISH, diarize="false")
    assert "ever tried" in answer.json["text"].lower()
    assert "fail better" in answer.json["text"].lower()


async def test_silence_is_a_transcript_without_words(real_edge: Edge) -> None:
    answer = await real_edge.transcribe(silence(5), model=ENGLISH)
    assert (answer.status, answer.json["text"], answer.json["segments"], answer.json["speakers"]) == (200, "", [], [])


async def test_after_all_bad_input_the_same_server_transcribes_the_next_good_file(
    real_edge: Edge, encode: Callable[..., bytes], monologue: bytes
) -> None:
    mp3 = encode(**KINDS["mp3"])
    flips = random.Random(1)
    flipped = bytearray(mp3)
    for _ in range(200):
        flipped[flips.randrange(len(flipped))] ^= 1 << flips.randrange(8)
    refused = [
        b"",
        b"text named .mp3",
        encode(container="mp4", audio=None, video="mpeg4"),
        b"#EXTM3U\nfile:///etc/passwd\n",
        mp3[:40],
    ]
    for content in refused:
        answer = await real_edge.transcribe(content, filename="x.mp3")
        assert (answer.status, set(answer.json)) == (400, {"error", "code", "request_id"})
    damaged = [mp3[: len(mp3) // 2], bytes(flipped), encode(**KINDS["mp4"])[:-20_000]]
    for content in damaged:
        assert (await real_edge.transcribe(content, diarize="false")).status in {200, 400}
    assert "fail better" in (await real_edge.transcribe(monologue, diarize="false")).json["text"].lower()


async def test_a_transcript_can_be_summarized(real_edge: Edge, dialogue: bytes) -> None:
    text = (await real_edge.transcribe(dialogue, diarize="false")).json["text"]
    answer = await real_edge.request("POST", "/v1/summarize", json={"text": text, "style": "headline"})
    assert answer.status == 200
    assert 0 < len(answer.json["summary"]) < len(text)
    assert answer.json["model"] not in {"", "qwen2.5-1.5b-instruct"}


async def test_health_and_models_of_the_real_services(real_edge: Edge) -> None:
    assert (await real_edge.request("GET", "/health")).json["status"] == "ok"
    models = (await real_edge.request("GET", "/v1/models")).json["models"]
    assert {m["id"]: m["available"] for m in models}[ENGLISH]
