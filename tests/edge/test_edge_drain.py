"""What `python -m services.edge` does from SIGTERM on: balancers notice, nobody new comes, who is there may finish."""

import asyncio
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.edge.conftest import bearer, form_of
from tests.edge.fakes import FakeLiveAsr, serving
from tests.edge.stream.conftest import CONFIG, SECOND, STOP, Client
from tests.edge.test_edge_program import started, wait_until_ready

LONG_S = "600"


@dataclass
class Program:
    """An edge of its own process, and a client of it."""

    process: subprocess.Popen[str]
    port: int
    http: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def stop(self) -> str:
        """Send SIGTERM; returns the log line that says it was heard."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stderr is not None
        while "stopping" not in (line := await asyncio.to_thread(self.process.stderr.readline)):
            assert self.process.poll() is None
        return line

    async def status(self, path: str) -> int:
        async with self.http.get(self.url + path) as answer:
            return answer.status

    async def no_longer_listens(self) -> None:
        deadline = time.monotonic() + 10
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except ConnectionRefusedError:
                return
            writer.close()
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)

    async def exit_status(self) -> int:
        return await asyncio.to_thread(self.process.wait, 10)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Client]:
        """A live session that has heard a second."""
        async with self.http.ws_connect(f"{self.url}/v1/stream") as websocket:
            client = Client(websocket)
            await client.say(CONFIG, SECOND)
            await client.hear_until(partial="word1")
            yield client


Start = Callable[..., AbstractAsyncContextManager[Program]]


@pytest.fixture
async def start(unused_tcp_port: int, tmp_path: Path, store_dir: Path, key: str) -> AsyncIterator[Start]:
    """Starts the program in front of a recognition that hears a word a second."""
    async with serving(FakeLiveAsr()) as address:
        services = {"ASR_ADDRESS": address, "DIARIZE_ADDRESS": "127.0.0.1:1", "DATA_DIR": str(store_dir)}

        @asynccontextmanager
        async def start(**settings: str) -> AsyncIterator[Program]:
            with started(unused_tcp_port, tmp_path, services | settings) as process:
                await asyncio.to_thread(wait_until_ready, process)
                # A connection for each request: what is told of new ones is meant.
                connector = aiohttp.TCPConnector(force_close=True)
                async with aiohttp.ClientSession(headers=bearer(key), connector=connector) as http:
                    yield Program(process, unused_tcp_port, http)

        yield start


async def test_until_it_is_told_to_stop_it_is_live_and_ready(start: Start) -> None:
    async with start() as edge:
        assert (await edge.status("/live"), await edge.status("/ready")) == (200, 200)


async def test_while_it_drains_it_is_not_ready_and_takes_requests_all_the_same(start: Start, quiet: bytes) -> None:
    async with start(EDGE_DRAIN_S=LONG_S) as edge:
        assert "live_sessions=0" in await edge.stop()
        assert (await edge.status("/live"), await edge.status("/ready")) == (200, 503)
        async with edge.http.post(f"{edge.url}/v1/transcribe", data=form_of(quiet)) as answer:
            assert (answer.status, (await answer.json())["text"]) == (200, "word1")
        async with edge.session() as client:
            await client.say(STOP)
            assert (await client.hear_out())[1] == 1000


async def test_that_it_is_not_ready_is_said_once_in_the_log(start: Start) -> None:
    async with start(EDGE_DRAIN_S=LONG_S) as edge:
        await edge.stop()
        assert await edge.status("/ready") == 503
        assert await edge.status("/v1/languages") == 200
        assert edge.process.stderr is not None
        assert "path=/v1/languages" in await asyncio.to_thread(edge.process.stderr.readline)


async def test_after_it_nobody_new_comes_and_a_live_session_goes_on_until_it_ends(start: Start) -> None:
    async with start(EDGE_DRAIN_S="0", EDGE_STREAM_DRAIN_S=LONG_S) as edge, edge.session() as client:
        assert "live_sessions=1" in await edge.stop()
        await edge.no_longer_listens()
        await client.say(SECOND, SECOND)
        await client.hear_until(partial="word3")
        await client.say(STOP)
        messages, code = await client.hear_out()
        assert code == 1000
        assert [m["text"] for m in messages if m.get("type") == "transcript"] == ["word1 word2", "word3"]
        # Nobody is left, so the rest of the ten minutes is not waited for.
        assert await edge.exit_status() == 0


async def test_a_session_that_takes_longer_is_asked_to_leave_with_everything_heard(start: Start) -> None:
    async with start(EDGE_DRAIN_S="0", EDGE_STREAM_DRAIN_S="0.3") as edge, edge.session() as client:
        await edge.stop()
        messages, code = await client.hear_out()
        assert code == 1001
        assert [m["text"] for m in messages if m.get("type") == "transcript"] == ["word1"]
        assert (messages[-1]["type"], messages[-1]["code"]) == ("error", "SHUTTING_DOWN")
        assert await edge.exit_status() == 0


async def test_a_session_that_began_while_it_drained_goes_on_as_well(start: Start) -> None:
    async with start(EDGE_DRAIN_S="3", EDGE_STREAM_DRAIN_S=LONG_S) as edge:
        await edge.stop()
        async with edge.session() as client:
            await edge.no_longer_listens()
            await client.say(SECOND, STOP)
            assert (await client.hear_out())[1] == 1000
        assert await edge.exit_status() == 0


async def test_without_a_session_it_ends_at_once(start: Start) -> None:
    async with start(EDGE_DRAIN_S="0", EDGE_STREAM_DRAIN_S=LONG_S) as edge:
        await edge.stop()
        assert await edge.exit_status() == 0


async def test_a_connection_that_waits_for_its_next_request_is_closed_before_sessions_end(start: Start) -> None:
    async with start(EDGE_DRAIN_S="0", EDGE_STREAM_DRAIN_S=LONG_S) as edge, edge.session():
        with socket.create_connection(("127.0.0.1", edge.port), timeout=10) as kept:
            kept.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200 OK" in kept.recv(4096)
            await edge.stop()
            assert await asyncio.to_thread(kept.recv, 4096) == b""
        assert edge.process.poll() is None


async def test_an_upload_that_is_on_its_way_is_heard_out_and_its_connection_closed(start: Start, quiet: bytes) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="x.wav"\r\n\r\n'
    body = part + quiet + b"\r\n--x--\r\n"
    async with start(EDGE_DRAIN_S="0", EDGE_STREAM_DRAIN_S=LONG_S) as edge, edge.session():
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        head = {
            "Host": "x",
            "Content-Type": "multipart/form-data; boundary=x",
            "Content-Length": str(len(body)),
            "Expect": "100-continue",
            **edge.http.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        writer.write(f"POST /v1/transcribe HTTP/1.1\r\n{lines}\r\n".encode())
        assert b"100 Continue" in await reader.readuntil(b"\r\n\r\n")
        writer.write(body[:100])
        await edge.stop()
        await edge.no_longer_listens()
        writer.write(body[100:])
        async with asyncio.timeout(10):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b'"text": "word1"' in answer
        writer.close()
        await writer.wait_closed()
