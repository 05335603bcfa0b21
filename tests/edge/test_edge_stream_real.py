"""Live sessions through the edge and the real recognition behind it."""

import asyncio
import wave
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from tests.edge.conftest import Edge, StartEdge

BYTES_PER_S = 32_000
ENGLISH = {"language": "en", "model": "moonshine-tiny-en"}
STOP = {"action": "stop"}


@pytest.fixture(scope="module")
def beckett(recordings: Path) -> bytes:
    """Ten seconds of a voice, six short sentences."""
    with wave.open(str(recordings / "beckett.wav")) as recording:
        return recording.readframes(recording.getnframes())


async def stream(
    edge: Edge, opening: list[Any], pcm: bytes, frame_bytes: int, ending: Any, **query: str
) -> list[dict[str, Any]]:
    """Send frames as fast as they are taken; return what came, the close checked."""
    url = f"{edge.url}/v1/stream"
    async with asyncio.timeout(60), edge.http.ws_connect(url, params=query, max_msg_size=0) as client:
        frames = [pcm[start : start + frame_bytes] for start in range(0, len(pcm), frame_bytes)]
        for frame in [*opening, *frames, ending]:
            await (client.send_bytes(frame) if isinstance(frame, bytes) else client.send_json(frame))
        messages = [message.json() async for message in client]
        assert client.close_code == 1000
        return messages


def text_of(messages: list[dict[str, Any]]) -> str:
    return " ".join(m["text"] for m in messages if m.get("type") == "transcript")


@pytest.mark.parametrize("frame_bytes", [3_200, 4_097, 1024 * 1024])
async def test_both_dialects_hear_the_same_whatever_the_frames(
    real_edge: Edge, beckett: bytes, frame_bytes: int
) -> None:
    page = await stream(real_edge, [ENGLISH], beckett, frame_bytes, STOP)
    sdk = await stream(real_edge, [], beckett, frame_bytes, b"")
    assert page[0]["status"] == "ready"
    assert page[-1] == {"text": "", "partial": "", "is_final": True}
    assert sdk[-1]["type"] == "final"
    assert text_of(page) == text_of(sdk) == sdk[-1]["text"]
    assert "no matter" in text_of(page).lower()


async def test_segments_have_times_in_order_within_the_session(real_edge: Edge, beckett: bytes) -> None:
    messages = await stream(real_edge, [ENGLISH], beckett, 3_200, STOP)
    finals = [m for m in messages if m.get("type") == "transcript"]
    times = [time for m in finals for time in (m["start"], m["end"])]
    assert len(finals) > 1
    assert times == sorted(times)
    assert times[-1] <= len(beckett) / BYTES_PER_S
    assert all(m["words"] and m["language"] == "en" for m in finals)


async def test_silence_is_a_session_without_words(real_edge: Edge) -> None:
    messages = await stream(real_edge, [ENGLISH], bytes(5 * BYTES_PER_S), 3_200, STOP)
    assert [m for m in messages if m.get("text") or m.get("partial")] == []


async def test_a_pause_of_the_client_brings_the_words_before_it(real_edge: Edge, beckett: bytes) -> None:
    async with asyncio.timeout(30), real_edge.http.ws_connect(f"{real_edge.url}/v1/stream") as client:
        await client.send_json(ENGLISH)
        await client.send_bytes(beckett[: 2 * BYTES_PER_S] + bytes(BYTES_PER_S))
        async for message in client:
            if message.json().get("type") == "transcript":
                break
        assert "tried" in message.json()["text"].lower()


async def test_a_client_that_sends_only_while_somebody_speaks_gets_the_words_a_second_later(
    real_edge: Edge, beckett: bytes
) -> None:
    now = asyncio.get_running_loop().time
    async with asyncio.timeout(60), real_edge.http.ws_connect(f"{real_edge.url}/v1/stream") as client:
        await client.send_json(ENGLISH)
        # Where somebody speaks, and no silence behind it.
        for start_s, end_s in ((0.2, 1.2), (1.7, 2.8)):
            speech = beckett[round(start_s * 10) * 3_200 : round(end_s * 10) * 3_200]
            for at in range(0, len(speech), 3_200):
                await client.send_bytes(speech[at : at + 3_200])
                await asyncio.sleep(0.1)
            silent_since = now()
            while (message := await client.receive_json()).get("type") != "transcript":
                pass
            assert now() - silent_since < 5
            assert ("tried" in message["text"].lower()) == (start_s < 1)
        assert message["start"] >= 0.9
        await client.send_json(STOP)
        assert (await client.receive_json())["is_final"]


async def test_a_model_without_weights_is_answered_by_the_fallback_which_is_named(
    real_edge: Edge, beckett: bytes
) -> None:
    model = "large-v3-turbo"
    page = await stream(real_edge, [{"language": "auto", "model": model}], beckett, 65_536, STOP)
    sdk = await stream(real_edge, [], beckett, 65_536, b"", model=model)
    for message in (page[0], sdk[-1]):
        assert message["model"] == ENGLISH["model"]
        assert any("large-v3-turbo" in warning for warning in message["warnings"])


@pytest.mark.parametrize(("model", "code"), [("large-v3-turbo", 1013), (ENGLISH["model"], 1008)])
async def test_a_language_the_model_does_not_know_is_refused(real_edge: Edge, model: str, code: int) -> None:
    async with asyncio.timeout(30), real_edge.http.ws_connect(f"{real_edge.url}/v1/stream") as client:
        await client.send_json({"language": "de", "model": model})
        message = await client.receive_json()
        assert message["type"] == "error"
        assert message["error"]
        assert (await client.receive()).type is aiohttp.WSMsgType.CLOSE
        assert client.close_code == code


async def test_speakers_of_every_segment_follow_and_no_word_is_another(
    real_edge: Edge, real_services: dict[str, str], start_edge: StartEdge, recordings: Path
) -> None:
    with wave.open(str(recordings / "endgame_nagg_nell.wav")) as recording:
        at_24_khz = np.frombuffer(recording.readframes(recording.getnframes()), np.int16)
    dialogue = np.interp(np.arange(0, len(at_24_khz), 1.5), np.arange(len(at_24_khz)), at_24_khz)
    pcm = dialogue.astype(np.int16).tobytes()
    # It is sent at once, faster than who speaks can be found out.
    patient = await start_edge(**real_services, stream_finish_s=50, stream_speakers_wait_s=50)
    plain = await stream(real_edge, [ENGLISH], pcm, 3_200, STOP)
    named = await stream(patient, [{**ENGLISH, "diarize": True}], pcm, 3_200, STOP)
    told = {segment["id"]: segment for m in named if m.get("type") == "speakers" for segment in m["segments"]}
    assert text_of(named) == text_of(plain)
    assert set(told) == {m["id"] for m in named if m.get("type") == "transcript"}
    assert {segment["speaker"] for segment in told.values()} == {"Speaker 1", "Speaker 2"}
    assert [m["warning"] for m in named if "warning" in m] == []
