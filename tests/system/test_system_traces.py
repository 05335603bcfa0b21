"""Traces of the whole house, as a collector receives them, and the request's id in every program's log."""

import asyncio
import gzip
import json
import threading
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import aiohttp
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.system.conftest import started
from tests.system.stack import NAMES, Stack, free_loopback_ports

LIMIT_S = 30
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}


@dataclass(frozen=True)
class Span:
    program: str
    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, str]


class Collector(ThreadingHTTPServer):
    """Takes OTLP over HTTP and keeps the spans."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Export)
        self._spans: list[Span] = []
        self._came = threading.Condition()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def take(self, request: ExportTraceServiceRequest) -> None:
        with self._came:
            for group in request.resource_spans:
                resource = {each.key: each.value.string_value for each in group.resource.attributes}
                for span in (span for scope in group.scope_spans for span in scope.spans):
                    attributes = {each.key: each.value.string_value for each in span.attributes}
                    ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
                    self._spans.append(Span(resource["service.name"], span.name, *ids, attributes))
            self._came.notify_all()

    def wait_for(self, is_whole: Callable[[list[Span]], bool]) -> list[Span]:
        """Return all spans once they are what was waited for."""
        with self._came:
            assert self._came.wait_for(lambda: is_whole(self._spans), LIMIT_S), self._spans
            return list(self._spans)


class _Export(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.take(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.end_headers()
        self.wfile.write(ExportTraceServiceResponse().SerializeToString())

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def collecting() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A house that sends traces."""
    settings = {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "LOG_FORMAT": "json",
    }
    yield from started(free_loopback_ports(len(NAMES)), tmp_path_factory.mktemp("traced"), settings)


async def transcribe(stack: Stack, recording: Path, **headers: str) -> str:
    """Send a recording, asking for speakers; return the id that the answer gives the request."""
    form = aiohttp.FormData({"diarize": "true"})
    form.add_field("file", recording.read_bytes(), filename="voice.wav")
    headers |= {"Authorization": f"Bearer {stack.development_key()}"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{stack.url}/v1/transcribe", data=form, headers=headers) as answer,
    ):
        assert answer.status == 200, await answer.text()
        return answer.headers["X-Request-Id"]


async def speak(stack: Stack, recording: Path) -> None:
    """Have a live session with speakers."""
    with wave.open(str(recording)) as file:
        pcm = file.readframes(file.getnframes())
    headers = {"Authorization": f"Bearer {stack.development_key()}"}
    async with aiohttp.ClientSession(headers=headers) as http, http.ws_connect(f"{stack.url}/v1/stream") as socket:
        await socket.send_json({"language": "en", "model": "moonshine-tiny-en", "diarize": True})
        for start in range(0, len(pcm), 32_000):
            await socket.send_bytes(pcm[start : start + 32_000])
        await socket.send_json({"action": "stop"})
        async for _ in socket:
            pass


def tree(spans: list[Span], trace: str) -> dict[str, set[str]]:
    """Return of one trace who was called by whom: programs by the program above them."""
    own = {span.id: span for span in spans if span.trace == trace}
    calls: dict[str, set[str]] = {}
    for span in own.values():
        above = own.get(span.parent)
        if above is None or above.program != span.program:
            calls.setdefault(above.program if above else span.parent, set()).add(span.program)
    return calls


async def test_a_recording_is_one_trace_that_goes_on_its_callers(
    traced: Stack, collector: Collector, recordings: Path
) -> None:
    await transcribe(traced, recordings / "beckett.wav", **TRACEPARENT)
    whole = {PARENT_ID: {"stt-edge"}, "stt-edge": {"stt-asr", "stt-diarize"}}
    collector.wait_for(lambda spans: tree(spans, TRACE_ID) == whole)


async def test_a_live_session_is_one_trace(traced: Stack, collector: Collector, recordings: Path) -> None:
    await speak(traced, recordings / "beckett.wav")

    def is_whole(spans: list[Span]) -> bool:
        sessions = [span.trace for span in spans if span.name == "GET /v1/stream"]
        return any(tree(spans, each) == {"": {"stt-edge"}, "stt-edge": {"stt-asr", "stt-diarize"}} for each in sessions)

    collector.wait_for(is_whole)


async def test_a_summary_is_one_trace(traced: Stack, collector: Collector) -> None:
    headers = {"Authorization": f"Bearer {traced.development_key()}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.post(f"{traced.url}/v1/summarize", json={"text": "Anna: The launch moves to May."}) as answer,
    ):
        request_id = answer.headers["X-Request-Id"]

    def is_whole(spans: list[Span]) -> bool:
        asked = [span.trace for span in spans if span.attributes.get("request.id") == request_id]
        return bool(asked) and tree(spans, asked[0]) == {"": {"stt-edge"}, "stt-edge": {"stt-summarize"}}

    collector.wait_for(is_whole)


async def test_no_span_holds_a_key_or_a_word(traced: Stack, collector: Collector) -> None:
    secret = "moonlit-harbour"
    async with aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {traced.development_key()}", "X-Request-Id": "secrecy"}
        body = {"text": f"Anna: The {secret} opens in May."}
        await http.post(f"{traced.url}/v1/summarize?token={secret}", json=body, headers=headers)
    spans = collector.wait_for(
        lambda spans: (
            {s.program for s in spans if s.attributes.get("request.id") == "secrecy"} == {"stt-edge", "stt-summarize"}
        )
    )
    assert secret not in str(spans)
    assert traced.development_key() not in str(spans)


async def test_every_log_line_of_a_request_has_its_id_in_every_program(traced: Stack, recordings: Path) -> None:
    request_id = await transcribe(traced, recordings / "beckett.wav")

    def lines() -> list[dict[str, str]]:
        texts = [line.split(" | ", 1)[-1] for line in traced.output().splitlines()]
        entries = [json.loads(text) for text in texts if text.startswith("{")]
        return [entry for entry in entries if entry.get("request_id") == request_id]

    deadline = time.monotonic() + LIMIT_S
    while {line["program"] for line in lines()} != {"edge", "asr", "diarize"}:
        assert time.monotonic() < deadline, traced.output()
        await asyncio.sleep(0.05)
    (trace,) = {line["trace_id"] for line in lines()}
    assert len(trace) == 32


async def test_nothing_is_sent_unless_asked_for(free_ports: list[int], tmp_path: Path, recordings: Path) -> None:
    with collecting() as collector:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
        with contextmanager(started)(free_ports, tmp_path, settings) as stack:
            await transcribe(stack, recordings / "beckett.wav")
            stack.interrupt()  # a program that ends sends what it has
            stack.process.wait(LIMIT_S)
        assert collector.wait_for(lambda spans: True) == []
