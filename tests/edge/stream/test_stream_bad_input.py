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
