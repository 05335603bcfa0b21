"""Who may wait how long for whom: silence, backpressure, a slow recognition, clients that vanish, and the end."""

import asyncio
import gc
import json
import socket
from typing import Any

import aiohttp
import psutil
import pytest
import websocket
from aiohttp import WSMsgType

from services.edge.keys import STORE
from tests.edge.conftest import Edge, StartEdge
from tests.edge.fakes import FakeLiveAsr
from tests.edge.stream.conftest import CONFIG, SECOND, STOP, Client, Connect

FRAME = SECOND[:3_200]
FRAME_S = 0.1


async def pace(client: Client, seconds: float) -> None:
    """Send audio as a microphone does."""
    next_s = asyncio.get_running_loop().time()
    for _ in range(round(seconds / FRAME_S)):
        await client.say(FRAME)
        next_s += FRAME_S
        await asyncio.sleep(next_s - asyncio.get_running_loop().time())


def vanish(client: Client) -> None:
    """Cut the connection without a word."""
    client.socket._conn.transport.abort()  # type: ignore[union-attr]


async def push(client: Client, seconds: int) -> None:
    """Send audio as fast as it is taken."""
    for _ in range(seconds):
        await client.say(SECOND)


@pytest.mark.parametrize("opening", [[], [CONFIG], [SECOND], [CONFIG, SECOND]])
async def test_a_client_without_audio_is_told_and_given_what_was_heard(
    connect: Connect, start_edge: StartEdge, asr_address: str, opening: list[Any]
) -> None:
    client = await connect(await start_edge(asr_address=asr_address, stream_idle_s=0.3))
    await client.say(*opening)
    messages, code = await client.hear_out()
    assert messages[-1]["error"] == "No audio was sent for 0.3 seconds."
    assert (messages[-1]["code"], code) == ("IDLE_TIMEOUT", 1008)
    assert not any(m.get("is_final") for m in messages)
    assert [m["text"] for m in messages if m.get("type") == "transcript"] == ["word1"] * (SECOND in opening)


async def test_pings_and_empty_frames_are_no_audio(connect: Connect, start_edge: StartEdge, asr_address: str) -> None:
    client = await connect(await start_edge(asr_address=asr_address, stream_idle_s=0.6))
    await client.say(CONFIG)

    async def be_busy() -> None:
        while not client.socket.closed:
            await client.socket.ping()
            await client.say(b"")
            await asyncio.sleep(0.1)

    busy = asyncio.create_task(be_busy())
    messages, _ = await client.hear_out()
    await asyncio.gather(busy, return_exceptions=True)
    assert messages[-1]["code"] == "IDLE_TIMEOUT"


@pytest.mark.parametrize(
    ("opening", "empty"),
    [([CONFIG], {"type": "partial", "text": "", "partial": ""}), ([FRAME], {"type": "partial", "text": ""})],
)
async def test_in_silence_an_empty_partial_comes_in_time_and_recognition_is_told_to_finalize(
    connect: Connect, start_edge: StartEdge, asr: FakeLiveAsr, asr_address: str, opening: list[Any], empty: Any
) -> None:
    client = await connect(await start_edge(asr_address=asr_address, stream_keepalive_s=0.2))
    await client.say(*opening)
    await client.hear_until(**empty)
    assert await client.hear() == empty
    assert (await asr.session()).flushes > 0


async def test_a_client_that_pauses_in_the_middle_of_a_sentence_gets_it(
    connect: Connect, start_edge: StartEdge, asr_address: str
) -> None:
    client = await connect(await start_edge(asr_address=asr_address, stream_keepalive_s=0.2))
    await client.say(CONFIG, SECOND)
    assert (await client.hear_until(type="transcript"))["text"] == "word1"
    await client.say(SECOND, STOP)
    messages, code = await client.hear_out()
    assert [m["text"] for m in messages if m.get("type") == "transcript"] == ["word1", "word2"]
    assert code == 1000


async def test_a_client_that_answers_no_pings_is_cut_off(
    start_edge: StartEdge, asr: FakeLiveAsr, asr_address: str
) -> None:
    edge = await start_edge(asr_address=asr_address, stream_heartbeat_s=0.4)
    async with edge.http.ws_connect(f"{edge.url}/v1/stream", autoping=False) as client:
        await client.send_json(CONFIG)
        assert (await client.receive()).type is WSMsgType.TEXT
        assert (await client.receive()).type is WSMsgType.PING
        async with asyncio.timeout(2):
            assert (await client.receive()).type is WSMsgType.CLOSED
        await asyncio.wait_for((await asr.session()).ended.wait(), 1)


async def test_a_silent_client_that_answers_pings_stays(
    connect: Connect, start_edge: StartEdge, asr_address: str
) -> None:
    client = await connect(await start_edge(asr_address=asr_address, stream_heartbeat_s=0.3, stream_keepalive_s=0.3))
    await client.say(CONFIG)
    for _ in range(5):
        await client.hear_until(type="partial")
    await client.say(STOP)
    assert await client.hear_until(is_final=True)


async def test_a_client_faster_than_real_time_is_slowed_and_not_dropped(
    connect: Connect, start_edge: StartEdge, asr: FakeLiveAsr, asr_address: str
) -> None:
    client = await connect(await start_edge(asr_address=asr_address, stream_lag_s=0.2, stream_heartbeat_s=0.2))
    await client.say(CONFIG)
    await client.hear_until(status="ready")
    asr.taking.clear()
    pushing = asyncio.create_task(push(client, 600))
    # Longer than every limit for those who are not held back.
    await asyncio.wait({pushing}, timeout=1.5)
    assert not pushing.done()
    asr.taking.set()
    hearing = asyncio.create_task(client.hear_out())
    await pushing
    await client.say(STOP)
    async with asyncio.timeout(30):
        messages, code = await hearing
    assert (messages[-1].get("is_final"), code) == (True, 1000)
    assert len(asr.sessions[0].pcm) == 600 * len(SECOND)


async def test_what_waits_inside_is_bounded(connect: Connect, asr: FakeLiveAsr) -> None:
    client = await connect()
    await client.say(CONFIG)
    await client.hear_until(status="ready")
    asr.taking.clear()
    client.socket.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    memory = psutil.Process()
    before = memory.memory_info().rss
    pushing = asyncio.create_task(push(client, 3_600))
    await asyncio.wait({pushing}, timeout=1)
    assert not pushing.done()
    assert memory.memory_info().rss - before < 20 * 1024 * 1024
    pushing.cancel()
    vanish(client)


async def test_a_ping_is_answered_while_a_client_is_held_back(connect: Connect, asr: FakeLiveAsr) -> None:
    client = await connect()
    client.socket.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
    await client.say(CONFIG)
    await client.hear_until(status="ready")
    # aiohttp's client hands pongs over only where it is told not to answer pings.
    client.socket._autoping = False

    async def take_little_by_little() -> None:
        while True:
            asr.taking.set()
            asr.taking.clear()
            await asyncio.sleep(0.05)

    asr.taking.clear()
    pushing = asyncio.create_task(push(client, 600))
    await asyncio.wait({pushing}, timeout=0.5)
    taking = asyncio.create_task(take_little_by_little())
    await client.socket.ping(b"still there?")
    async with asyncio.timeout(2):
        while (message := await client.socket.receive()).data != b"still there?":
            assert message.type in {WSMsgType.TEXT, WSMsgType.PONG}
    assert not pushing.done()
    for task in (pushing, taking):
        task.cancel()
    asr.taking.set()
    vanish(client)


async def test_a_client_in_real_time_whom_recognition_cannot_follow_is_told_so(
    connect: Connect, start_edge: StartEdge, asr: FakeLiveAsr, asr_address: str
) -> None:
    client = await connect(await start_edge(asr_address=asr_address, stream_lag_s=0.5))
    await client.say(CONFIG, SECOND * 2)
    await client.hear_until(type="transcript")
    asr.taking.clear()
    talking = asyncio.create_task(pace(client, 60))
    messages, code = await client.hear_out()
    await asyncio.gather(talking, return_exceptions=True)
    assert "cannot keep up" in messages[-1]["error"]
    assert messages[-1]["warnings"] == ["Audio from 2.0 seconds on was not transcribed."]
    assert (messages[-1]["code"], code) == ("OVERLOADED", 1013)
    assert not any(m.get("is_final") for m in messages)
    await asyncio.wait_for(asr.sessions[0].ended.wait(), 1)


async def test_recognition_that_takes_nothing_any_more_ends_even_a_client_that_is_held_back(
    connect: Connect, start_edge: StartEdge, asr: FakeLiveAsr, asr_address: str
) -> None:
    client = await connect(await start_edge(asr_address=asr_address, stream_idle_s=0.6))
    await client.say(CONFIG)
    await client.hear_until(status="ready")
    asr.taking.clear()
    pushing = asyncio.create_task(push(client, 600))
    messages, code = await client.hear_out()
    pushing.cancel()
    assert (messages[-1]["code"], code) == ("DEADLINE_EXCEEDED", 1013)


async def test_a_rest_that_does_not_come_in_time_is_an_error(
    connect: Connect, start_edge: StartEdge, asr: FakeLiveAsr, asr_address: str
) -> None:
    asr.proceed.clear()
    client = await connect(await start_edge(asr_address=asr_address, stream_finish_s=0.3))
    await client.say(CONFIG, SECOND, STOP)
    messages, code = await client.hear_out()
    assert (messages[-1]["code"], code) == ("DEADLINE_EXCEEDED", 1013)
    await asyncio.wait_for(asr.sessions[0].ended.wait(), 1)


async def step_by_step(asr: FakeLiveAsr, step_s: float) -> None:
    """Let recognition take a portion of audio now and then."""
    while True:
        asr.taking.set()
        asr.taking.clear()
        await asyncio.sleep(step_s)


async def test_after_the_stop_the_rest_may_take_any_time_while_recognition_goes_on(
    connect: Connect, start_edge: StartEdge, asr: FakeLiveAsr, asr_address: str
) -> None:
    client = await connect(await start_edge(asr_address=asr_address, stream_finish_s=1))
    await client.say(CONFIG)
    await client.hear_until(status="ready")
    asr.taking.clear()
    slow = asyncio.create_task(step_by_step(asr, 0.3))
    await client.say(*[SECOND[:3_200]] * 280, STOP)
    began = asyncio.get_running_loop().time()
    messages, code = await client.hear_out()
    slow.cancel()
    assert asyncio.get_running_loop().time() - began > 2
    said = " ".join(m["text"] for m in messages if m.get("type") == "transcript")
    assert said.split() == [f"word{number}" for number in range(1, 29)]
    assert (messages[-1].get("is_final"), code) == (True, 1000)


async def test_a_session_that_lasts_too_long_gets_its_rest_and_is_ended(
    connect: Connect, start_edge: StartEdge, asr_address: str
) -> None:
    client = await connect(await start_edge(asr_address=asr_address, stream_max_s=1))
    await client.say(CONFIG)
    talking = asyncio.create_task(pace(client, 30))
    messages, code = await client.hear_out()
    await asyncio.gather(talking, return_exceptions=True)
    assert (messages[-1]["error"], code) == ("A session may last 1 seconds; connect again.", 1009)
    assert "word1" in messages[-2]["text"]


async def test_a_client_that_never_reads_is_cut_off(start_edge: StartEdge, asr: FakeLiveAsr, asr_address: str) -> None:
    asr.words_per_s = 3_000
    edge = await start_edge(asr_address=asr_address, write_timeout_s=0.5)
    async with edge.http.ws_connect(f"{edge.url}/v1/stream") as socket_that_is_not_read:
        wire = socket_that_is_not_read.get_extra_info("socket")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client = Client(socket_that_is_not_read)
        with pytest.raises(ConnectionError):
            await push(client, 3_600)
        await asyncio.wait_for(asr.sessions[0].ended.wait(), 1)


@pytest.mark.parametrize("opening", [[CONFIG], [CONFIG, SECOND * 3 + FRAME], [SECOND + FRAME]])
async def test_a_client_that_vanishes_frees_its_session_within_a_second(
    connect: Connect, asr: FakeLiveAsr, opening: list[Any]
) -> None:
    client = await connect()
    await client.say(*opening)
    session = await asr.session()
    vanish(client)
    await asyncio.wait_for(session.ended.wait(), 1)


async def test_a_client_that_vanishes_while_it_is_held_back_frees_its_session_within_a_second(
    connect: Connect, asr: FakeLiveAsr
) -> None:
    client = await connect()
    await client.say(CONFIG)
    session = await asr.session()
    asr.taking.clear()
    pushing = asyncio.create_task(push(client, 600))
    await asyncio.wait({pushing}, timeout=0.5)
    pushing.cancel()
    vanish(client)
    try:
        await asyncio.wait_for(session.ended.wait(), 1)
    finally:
        asr.taking.set()


async def test_a_client_that_vanishes_after_its_stop_frees_its_session_within_a_second(
    connect: Connect, asr: FakeLiveAsr
) -> None:
    asr.proceed.clear()
    client = await connect()
    await client.say(CONFIG, SECOND, STOP)
    await client.hear_until(partial="word1")
    session = await asr.session()
    vanish(client)
    await asyncio.wait_for(session.ended.wait(), 1)


class HalfClosed:
    """A client that sends no more and shuts down its side of the connection, but reads on."""

    def __init__(self, edge: Edge) -> None:
        url = f"{edge.url.replace('http', 'ws')}/v1/stream"
        self._socket = websocket.create_connection(url, timeout=10, header=edge.bearer)

    def say(self, *frames: bytes | dict[str, Any]) -> None:
        for frame in frames:
            if isinstance(frame, bytes):
                self._socket.send_binary(frame)
            else:
                self._socket.send(json.dumps(frame))

    def shut_down(self) -> None:
        self._socket.sock.shutdown(socket.SHUT_WR)

    def hear_out(self) -> tuple[list[dict[str, Any]], int]:
        messages = []
        while (frame := self._socket.recv_frame()).opcode != websocket.ABNF.OPCODE_CLOSE:
            # To a ping most clients would answer, and fail.
            assert frame.opcode != websocket.ABNF.OPCODE_PING
            if frame.opcode == websocket.ABNF.OPCODE_TEXT:
                messages.append(json.loads(frame.data))
        assert self._socket.sock.recv(1) == b""
        self._socket.sock.close()
        return messages, int.from_bytes(frame.data[:2], "big")


@pytest.mark.parametrize("frames", [[CONFIG, SECOND, STOP], [SECOND, STOP], [SECOND, b""]])
async def test_a_client_that_shuts_down_its_side_after_the_stop_gets_the_rest(
    edge: Edge, asr: FakeLiveAsr, frames: list[Any]
) -> None:
    asr.proceed.clear()
    client = await asyncio.to_thread(HalfClosed, edge)
    await asyncio.to_thread(client.say, *frames)
    await asyncio.to_thread(client.shut_down)
    session = await asr.session()
    with pytest.raises(TimeoutError):
        # Longer than it takes to notice who has gone.
        await asyncio.wait_for(session.ended.wait(), 1)
    asr.proceed.set()
    messages, code = await asyncio.to_thread(client.hear_out)
    assert [m["text"] for m in messages if m.get("type") == "transcript"] == ["word1"]
    assert (messages[-1]["is_final"], code) == (True, 1000)


async def test_a_client_that_shuts_down_its_side_while_it_is_held_back_gets_all_of_it(
    edge: Edge, asr: FakeLiveAsr
) -> None:
    asr.taking.clear()
    client = await asyncio.to_thread(HalfClosed, edge)
    await asyncio.to_thread(client.say, CONFIG, *[SECOND] * 28, STOP)
    await asyncio.to_thread(client.shut_down)
    session = await asr.session()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(session.ended.wait(), 1)
    asr.taking.set()
    messages, code = await asyncio.to_thread(client.hear_out)
    said = " ".join(m["text"] for m in messages if m.get("type") == "transcript")
    assert said.split() == [f"word{number}" for number in range(1, 29)]
    assert (messages[-1]["is_final"], code) == (True, 1000)


async def test_a_client_that_shuts_down_its_side_without_a_stop_has_gone(edge: Edge, asr: FakeLiveAsr) -> None:
    client = await asyncio.to_thread(HalfClosed, edge)
    await asyncio.to_thread(client.say, CONFIG, SECOND)
    session = await asr.session()
    await asyncio.to_thread(client.shut_down)
    await asyncio.wait_for(session.ended.wait(), 1)


async def test_a_client_that_just_closes_frees_its_session(connect: Connect, asr: FakeLiveAsr) -> None:
    client = await connect()
    await client.say(SECOND)
    session = await asr.session()
    assert await client.socket.close()
    assert client.socket.close_code == 1000
    await asyncio.wait_for(session.ended.wait(), 1)


async def test_when_the_server_stops_what_was_heard_comes_and_then_1001(
    connect: Connect, start_edge: StartEdge, asr: FakeLiveAsr, asr_address: str
) -> None:
    edge = await start_edge(asr_address=asr_address)
    speaking, waiting = await connect(edge), await connect(edge)
    await speaking.say(CONFIG, SECOND)
    await speaking.hear_until(partial="word1")
    stopping = asyncio.create_task(edge.stop())
    messages, code = await speaking.hear_out()
    assert [m.get("type") for m in messages[-2:]] == ["transcript", "error"]
    assert (messages[-1]["code"], code) == ("SHUTTING_DOWN", 1001)
    assert (await waiting.hear_out())[1] == 1001
    async with asyncio.timeout(2):
        await stopping


async def test_when_the_server_stops_a_recognition_that_hangs_does_not_keep_it(
    connect: Connect, start_edge: StartEdge, asr: FakeLiveAsr, asr_address: str
) -> None:
    asr.proceed.clear()
    edge = await start_edge(asr_address=asr_address)
    client = await connect(edge)
    await client.say(CONFIG, SECOND)
    await client.hear_until(partial="word1")
    stopping = asyncio.create_task(edge.stop())
    messages, code = await client.hear_out()
    assert (messages[-1]["code"], code) == ("SHUTTING_DOWN", 1001)
    async with asyncio.timeout(2):
        await stopping


async def test_a_thousand_connections_opened_and_dropped_leave_nothing(
    start_edge: StartEdge, asr: FakeLiveAsr, asr_address: str
) -> None:
    edge = await start_edge(asr_address=asr_address)
    process = psutil.Process()

    async def open_and_drop(number: int) -> None:
        async with aiohttp.ClientSession(headers=edge.bearer) as http:
            client = Client(await http.ws_connect(f"{edge.url}/v1/stream"))
            await client.say(*([], [CONFIG], [FRAME], [CONFIG, FRAME, STOP])[number % 4])
            vanish(client)

    async def settled() -> tuple[int, int, int]:
        async with asyncio.timeout(10):
            # Nothing tells of the last of aiohttp's tasks.
            while asr.running or edge.sessions or len(asyncio.all_tasks()) > tasks + 5:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        # Those to the store are kept for the next caller, as many as there were at once.
        await edge.runner.app[STORE].redis.connection_pool.disconnect(inuse_connections=False)
        gc.collect()
        return len(asyncio.all_tasks()), process.num_fds(), process.memory_info().rss

    tasks = len(asyncio.all_tasks())
    for start in range(0, 200, 40):
        await asyncio.gather(*(open_and_drop(number) for number in range(start, start + 40)))
    _, descriptors, memory = await settled()
    for start in range(200, 1_000, 40):
        await asyncio.gather(*(open_and_drop(number) for number in range(start, start + 40)))
    _, descriptors_after, memory_after = await settled()
    assert descriptors_after <= descriptors + 5
    assert memory_after - memory < 10 * 1024 * 1024
