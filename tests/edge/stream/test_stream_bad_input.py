"""Clients that break the protocol: an error that says how, the close code for it, and nothing left behind."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
import websocket

from services.common.errors import Reason, SttError
from tests.edge.conftest import Edge
from tests.edge.fakes import FakeLiveAsr
from tests.edge.stream.conftest import CONFIG, SECOND, Connect

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("frames", "hint"),
    [
        (["hello"], "not JSON"),
        (["[" * 100_000], "not JSON"),
        (["[]"], "must be a JSON object"),
        (['"en"'], "must be a JSON object"),
        ([{"action": "start"}], "Unknown action"),
        ([{"model": "nonsense"}], "Unknown model"),
        ([{"language": "klingon"}], "Unknown language"),
        ([{"language": 7}], "language must be a string"),
        ([{"model": ["small"]}], "model must be a string"),
        ([{"prompt": ["Hello."]}], "prompt must be a string"),
        ([{"prompt": "half a pair: \ud83d"}], "prompt has control characters"),
        ([{"keywords": {"a": 1}}], "keywords must be a list of strings"),
        ([{"keywords": ["a", 7]}], "keywords must be a list of strings"),
        ([{"languages": ["auto"]}], "languages must name"),
        ([{"languages": ["en", "xx"]}], "Unknown language"),
        ([{"language": "de", "languages": ["en"]}], "not among languages"),
        ([{"task": "summarize"}], "transcribe, translate"),
        ([{"endpoint_silence_ms": 199}], "200 to 3,000"),
        ([{"endpoint_silence_ms": 500.5}], "must be a whole number"),
        ([CONFIG, "hello"], "not JSON"),
        ([CONFIG, CONFIG], "config already"),
        ([CONFIG, SECOND, CONFIG], "config already"),
        ([CONFIG, SECOND, "in the middle", SECOND], "not JSON"),
        ([CONFIG, {"action": "pause"}], "Unknown action"),
        ([SECOND, CONFIG], "config already"),
        ([SECOND, "hello"], "not JSON"),
    ],
)
async def test_a_frame_that_breaks_the_protocol_is_an_error_and_1008(
    connect: Connect, asr: FakeLiveAsr, frames: list[Any], hint: str
) -> None:
    client = await connect()
    await client.say(*frames)
    messages, code = await client.hear_out()
    error = messages[-1]
    assert hint in error["error"]
    assert (error["type"], error["text"], error["partial"]) == ("error", "", "")
    assert not any(m.get("is_final") for m in messages)
    assert code == 1008
    for session in asr.sessions:
        await asyncio.wait_for(session.ended.wait(), 1)


BREACHES: list[Any] = ["hello", "[]", {"type": "KeepAlive"}, {"type": "CloseStream"}, {"action": "pause"}, CONFIG]


@pytest.mark.parametrize("breach", BREACHES)
@pytest.mark.parametrize("opening", [[CONFIG], []])
async def test_what_was_said_before_a_frame_that_breaks_the_protocol_is_finalized_and_sent_before_the_error(
    connect: Connect, opening: list[Any], breach: Any
) -> None:
    client = await connect()
    await client.say(*opening, SECOND * 3, breach)
    messages, code = await client.hear_out()
    assert [m["text"] for m in messages if m.get("type") == "transcript"] == ["word1 word2", "word3"]
    assert ([m.get("type") for m in messages].index("error"), code) == (len(messages) - 1, 1008)
    assert not any(m.get("is_final") for m in messages)
    assert "warnings" not in messages[-1]


async def test_audio_behind_a_frame_that_breaks_the_protocol_is_not_heard_and_that_is_said(
    connect: Connect, asr: FakeLiveAsr
) -> None:
    asr.proceed.clear()
    client = await connect()
    await client.say(CONFIG, SECOND, "hello", SECOND)
    await client.hear_until(partial="word1")
    # What comes before its answer has been read before.
    client.socket._autoping = False
    await client.socket.ping()
    assert (await client.socket.receive()).type is aiohttp.WSMsgType.PONG
    asr.proceed.set()
    messages, _ = await client.hear_out()
    assert messages[-1]["warnings"] == ["Audio from 1.0 seconds on was not transcribed."]
    assert asr.sessions[0].pcm == SECOND


@pytest.mark.parametrize(("content", "kind", "closed_with"), [
    (b"\xff\xfe", aiohttp.WSMsgType.TEXT, 1008),
    (b"", 3, 1008),
    (bytes(MIB + 1), aiohttp.WSMsgType.BINARY, 1009),
])  # fmt: skip
@pytest.mark.parametrize("opening", [[CONFIG], []])
async def test_what_was_said_before_a_frame_that_cannot_be_read_is_finalized_and_sent_before_the_error(
    connect: Connect, opening: list[Any], content: bytes, kind: Any, closed_with: int
) -> None:
    client = await connect()
    await client.say(*opening, SECOND * 3)
    await client.socket.send_frame(content, kind)
    messages, code = await client.hear_out()
    assert [m["text"] for m in messages if m.get("type") == "transcript"] == ["word1 word2", "word3"]
    assert ([m.get("type") for m in messages].index("error"), code) == (len(messages) - 1, closed_with)
    assert messages[-1]["warnings"] == ["Audio from 3.0 seconds on was not transcribed."]


async def test_text_that_is_not_utf_8_is_an_error(connect: Connect) -> None:
    client = await connect()
    await client.socket.send_frame(b"\xff\xfe", aiohttp.WSMsgType.TEXT)
    messages, code = await client.hear_out()
    assert "UTF-8" in messages[0]["error"]
    assert code == 1008


async def test_a_frame_of_one_mebibyte_is_heard(connect: Connect, asr: FakeLiveAsr) -> None:
    client = await connect()
    await client.say(b"\x01\x00" * (MIB // 2), b"")
    messages, code = await client.hear_out()
    assert messages[-1]["duration"] == 32.768
    assert code == 1000
    assert asr.sessions[0].pcm == b"\x01\x00" * (MIB // 2)


@pytest.mark.parametrize("opening", [None, json.dumps(CONFIG)])
@pytest.mark.parametrize("size_bytes", [MIB + 1, 10 * MIB])
async def test_a_larger_frame_is_an_error_and_1009(edge: Edge, opening: str | None, size_bytes: int) -> None:
    def send_and_hear() -> tuple[str, int]:
        # This client sends all of it before it reads anything.
        url = f"{edge.url.replace('http', 'ws')}/v1/stream"
        client = websocket.create_connection(url, timeout=10, header=edge.bearer)
        if opening:
            client.send(opening)
        client.send_binary(bytes(size_bytes))
        error = ""
        while True:
            kind, data = client.recv_data()
            if kind == websocket.ABNF.OPCODE_CLOSE:
                client.shutdown()
                return error, int.from_bytes(data[:2], "big")
            error = json.loads(data).get("error", "")

    error, code = await asyncio.to_thread(send_and_hear)
    assert "1,048,576 bytes" in error
    assert code == 1009


async def test_recognition_that_fails_is_said_after_what_was_finalized(connect: Connect, asr: FakeLiveAsr) -> None:
    client = await connect()
    await client.say(CONFIG, SECOND * 2)
    await client.hear_until(type="transcript")
    asr.error = SttError(Reason.OVERLOADED, "Too many sessions.", retry_after_s=2)
    await client.say(SECOND)
    messages, code = await client.hear_out()
    assert messages[-1]["error"] == "Too many sessions."
    assert messages[-1]["warnings"] == ["Audio from 2.0 seconds on was not transcribed."]
    assert messages[-1]["code"] == "OVERLOADED"
    assert code == 1013


async def test_a_fault_of_the_server_is_1011_and_tells_nothing(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.edge.backends.convert.segment", lambda message: 1 / 0)
    client = await connect()
    await client.say(CONFIG, SECOND * 2)
    messages, code = await client.hear_out()
    assert messages[-1]["code"] == "INTERNAL"
    assert "division" not in messages[-1]["error"]
    assert code == 1011


async def test_after_all_that_the_same_server_hears_the_next_client(connect: Connect, edge: Edge) -> None:
    for frames in (["hello"], [CONFIG, CONFIG], [{"model": "nonsense"}], [SECOND, "hello"]):
        client = await connect()
        await client.say(*frames)
        await client.hear_out()
    client = await connect()
    await client.say(SECOND, b"")
    assert (await client.hear_until(type="final"))["text"] == "word1"
    assert (await edge.request("GET", "/v1/languages")).status == 200
