"""What recognition counts: its queue, its engines, its models, and how long those who speak wait for words."""

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs
from stt.asr.v1 import asr_pb2 as pb

from services.asr.engine import Hypothesis, Utterance
from services.asr.engines.moonshine import Moonshine
from services.asr.stabilizer import Shown
from services.common import tracing
from tests.asr.conftest import Pcm, Serve, live, portioned, requests
from tests.asr.test_asr_live import Watched, kinds, paced, segments
from tests.asr.test_asr_requests import CONFIG, admitted

LIMIT_S = 30
MODEL = "moonshine-tiny-en"


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


class Change:
    """How far a metric has gone since."""

    def __init__(self, name: str, **labels: str) -> None:
        self._name, self._labels = name, labels
        self._before = value(name, **labels)

    @property
    def now(self) -> float:
        return value(self._name, **self._labels) - self._before


def waiting() -> float:
    return sum(value("stt_queue_length", kind=kind) for kind in ("final", "look", "file"))


def ended(outcome: str) -> Change:
    return Change("stt_requests_total", method="Transcribe", outcome=outcome)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
def watched(engine: Moonshine) -> Watched:
    return Watched(engine)


@pytest.fixture
def speech(load: Callable[[str], Pcm]) -> Pcm:
    return load("beckett.wav")


async def test_a_recording_is_counted_with_its_time_over_its_audio(serve: Serve, speech: Pcm) -> None:
    audio_s = Change("stt_audio_seconds_total", kind="recording")
    count, factor = Change("stt_real_time_factor_count"), Change("stt_real_time_factor_sum")
    began = asyncio.get_running_loop().time()
    async with serve() as server:
        assert await server.segments(speech)
    took_s = asyncio.get_running_loop().time() - began
    assert audio_s.now == pytest.approx(len(speech) / 16_000)
    assert count.now == 1
    assert 0 < factor.now * audio_s.now < took_s


async def test_what_is_empty_or_live_has_no_time_over_its_audio(serve: Serve, speech: Pcm) -> None:
    count = Change("stt_real_time_factor_count")
    async with serve() as server:
        await server.events(b"")
        await server.live(speech)
    assert count.now == 0


async def test_each_piece_of_a_recording_waits_is_batched_and_keeps_a_worker_busy(
    serve: Serve, load: Callable[[str], Pcm], watched: Watched
) -> None:
    waits = Change("stt_queue_wait_seconds_count", kind="file")
    batches, pieces = Change("stt_batch_size_count", kind="file"), Change("stt_batch_size_sum", kind="file")
    busy_s = Change("stt_engine_busy_seconds_total", model=MODEL)
    began = asyncio.get_running_loop().time()
    async with serve(engine=watched) as server:
        await server.events(load("two_cities.wav"))
    took_s = asyncio.get_running_loop().time() - began
    assert len(watched.lengths_s) >= 3
    assert waits.now == batches.now == pieces.now == len(watched.lengths_s)
    assert 0 < busy_s.now < 2 * took_s
    assert waiting() == 0


async def test_the_looks_and_finals_of_a_session_wait_and_are_batched_by_their_kinds(
    serve: Serve, speech: Pcm, watched: Watched
) -> None:
    waits = {kind: Change("stt_queue_wait_seconds_count", kind=kind) for kind in ("look", "final", "file")}
    async with serve(engine=watched) as server:
        events = await server.live(speech)
    assert waits["file"].now == 0
    assert waits["final"].now >= kinds(events).count("speech_ended")
    assert waits["look"].now >= 1
    assert waits["look"].now + waits["final"].now == len(watched.lengths_s)
    assert waiting() == 0


async def test_the_queue_is_as_long_as_it_is_while_it_waits_and_after_all_have_hung_up(
    serve: Serve, load: Callable[[str], Pcm], watched: Watched
) -> None:
    watched.gate.clear()
    cancelled = ended("cancelled")
    speech = load("two_cities.wav")
    async with serve(engine=watched) as server:
        calls = [server.stub.Transcribe(live([*portioned(speech), None])) for _ in range(3)]
        calls += [server.stub.Transcribe(requests(speech.tobytes())) for _ in range(2)]
        listening = [asyncio.ensure_future(read(call)) for call in calls]
        for kind in ("final", "look", "file"):
            await until(lambda kind=kind: value("stt_queue_length", kind=kind) > 0)  # type: ignore[misc]
        for call in calls:
            call.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
        # Nobody waits any more, though what was begun is still being decoded.
        await until(lambda: waiting() == 0)
        await until(lambda: cancelled.now == len(calls))
        watched.gate.set()
        assert await admitted(server.stub.Transcribe(requests(b"")))
    assert waiting() == 0
    for kind in ("recording", "live"):
        assert value("stt_requests_running", kind=kind) == 0


async def read(call: Any) -> list[Any]:
    return [event async for event in call]


async def test_latencies_are_from_the_arrival_of_the_audio_to_its_words(
    serve: Serve, load: Callable[[str], Pcm], watched: Watched
) -> None:
    partials, partials_s = Change("stt_partial_latency_seconds_count"), Change("stt_partial_latency_seconds_sum")
    finals, finals_s = Change("stt_final_latency_seconds_count"), Change("stt_final_latency_seconds_sum")
    now = asyncio.get_running_loop().time
    events: list[Any] = []

    async def come(kind: str) -> None:
        while kind not in kinds(events):
            events.append(await call.read())

    began = now()
    async with serve(engine=watched) as server:
        call = server.stub.Transcribe()
        for request in live(portioned(load("two_cities.wav")[: 3 * 16_000])):
            await call.write(request)
        await come("partial")
        watched.gate.clear()
        flushed = now()
        await call.write(pb.TranscribeRequest(flush=pb.Flush()))
        await come("speech_ended")
        heard = now()
        await server.models()
        decoded = now()
        watched.gate.set()
        await come("segment")
        came = now()
        await call.done_writing()
        await come("finished")
    shown = [event for event in events if event.WhichOneof("event") == "partial"]
    assert partials.now == len(shown)
    assert 0 < partials_s.now < len(shown) * (now() - began)
    assert finals.now == 1
    assert decoded - heard <= finals_s.now <= came - flushed


def test_words_are_taken_back_when_what_follows_has_them_no_more_in_that_order() -> None:
    interim, taken_back = Change("stt_interim_words_total"), Change("stt_interim_words_taken_back_total")
    final = Change("stt_final_words_total")
    shown = Shown()
    shown.show(["It", "was"])
    shown.show(["it", "was", "the", "beast"])
    shown.show(["It", "was", "the", "best", "of"])
    assert (interim.now, taken_back.now, final.now) == (6, 1, 0)
    shown.settle(["It", "was", "best", "of", "times."])
    assert (interim.now, taken_back.now, final.now) == (6, 2, 5)
    shown.show(["It"])
    shown.settle([])
    assert (interim.now, taken_back.now, final.now) == (7, 3, 5)


async def test_words_that_a_session_shows_and_ends_with_are_counted(serve: Serve, speech: Pcm) -> None:
    interim, taken_back = Change("stt_interim_words_total"), Change("stt_interim_words_taken_back_total")
    final = Change("stt_final_words_total")
    async with serve() as server:
        events = await read(server.stub.Transcribe(paced(speech, 4), timeout=60))
    last = [event.partial.text for event in events if event.WhichOneof("event") == "partial"][-1]
    assert interim.now >= len(last.split()) > 0
    assert 0 <= taken_back.now <= interim.now
    assert final.now == sum(len(segment.words) for segment in segments(events))


async def test_a_session_that_is_shown_no_interim_words_counts_none(serve: Serve, speech: Pcm) -> None:
    interim, final = Change("stt_interim_words_total"), Change("stt_final_words_total")
    partials = Change("stt_partial_latency_seconds_count")
    async with serve() as server:
        assert segments(await server.live(speech, interim_results=False))
    assert (interim.now, final.now, partials.now) == (0, 0, 0)


async def test_models_that_are_wanted_are_shown_as_loaded_or_not(serve: Serve, tmp_path: Path, untrained: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).symlink_to(untrained)

    def loaded(*models: str) -> list[float | None]:
        return [REGISTRY.get_sample_value("stt_model_loaded", {"model": model, "device": "cpu"}) for model in models]

    async with serve(model_dir=tmp_path, models=("first",), models_on_demand=("second",), workers=2) as server:
        assert loaded("first", "second", MODEL, "large-v3") == [1, 0, 1, None]
        await server.events(b"", model="second", language="en")
        assert loaded("first", "second") == [1, 1]
        assert value("stt_engine_workers", device="cpu") == 2
        # Where no model runs on a GPU, nobody waits there to be used.
        assert REGISTRY.get_sample_value("stt_engine_workers", {"device": "cuda"}) is None
    assert loaded("first", "second") == [0, 0]


class Failing(Watched):
    def decode(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        raise ValueError("no weights")


async def test_a_failing_engine_counts_as_internal_and_leaves_nothing_waiting(
    serve: Serve, speech: Pcm, engine: Moonshine
) -> None:
    internal = ended("INTERNAL")
    async with serve(engine=Failing(engine)) as server:  # type: ignore[arg-type]
        await server.error(requests(speech.tobytes()))
        await server.error(live(portioned(speech)))
    assert internal.now == 2
    assert waiting() == 0


async def test_requests_count_as_overloaded_and_as_ok(serve: Serve) -> None:
    overloaded, ok = ended("OVERLOADED"), ended("ok")
    async with serve(max_requests=1) as server:
        assert value("stt_requests_limit", kind="recording") == 1
        first = server.stub.Transcribe()
        await first.write(CONFIG)
        assert (await first.read()).WhichOneof("event") == "started"
        assert value("stt_requests_running", kind="recording") == 1
        await server.error(requests(b""))
        await first.done_writing()
        while await first.read() is not grpc.aio.EOF:
            pass
        await until(lambda: ok.now == 1)
    assert (overloaded.now, ok.now) == (1, 1)
    assert value("stt_requests_running", kind="recording") == 0


async def test_nothing_that_a_caller_says_becomes_a_label(serve: Serve) -> None:
    unknown = ended("UNKNOWN_MODEL")
    async with serve() as server:
        call = server.stub.Transcribe(
            requests(b"", model="said-by-a-caller", language="en"), metadata=(("x-request-id", "said-by-a-caller"),)
        )
        with pytest.raises(grpc.aio.AioRpcError):
            await read(call)
        await server.error(requests(b"", language="said-by-a-caller"))
    assert unknown.now == 1
    assert "said-by-a-caller" not in generate_latest().decode()


@pytest.mark.parametrize("send", [lambda pcm: requests(pcm.tobytes()), lambda pcm: live(portioned(pcm))])
async def test_the_span_of_a_request_tells_what_it_came_to(
    serve: Serve, speech: Pcm, monkeypatch: pytest.MonkeyPatch, send: Callable[[Pcm], Iterable[pb.TranscribeRequest]]
) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    async with serve() as server:
        await read(server.stub.Transcribe(send(speech)))
    (span,) = exporter.get_finished_spans()
    told: Any = span.attributes
    assert told["asr.model"] == MODEL
    assert told["asr.audio_s"] == pytest.approx(len(speech) / 16_000, abs=0.001)
    assert told["asr.queue_wait_s"] >= 0
    assert told["asr.decode_s"] > 0


class Talkative(Watched):
    """Logs as it decodes, as engines do that run out of memory."""

    def decode(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        structlog.get_logger().warning("decoding")
        return super().decode(utterances)


async def test_what_an_engine_logs_has_the_id_of_the_request_it_decodes_for(
    serve: Serve, speech: Pcm, engine: Moonshine
) -> None:
    async with serve(engine=Talkative(engine)) as server:  # type: ignore[arg-type]
        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
            await asyncio.gather(
                read(server.stub.Transcribe(requests(speech.tobytes()), metadata=(("x-request-id", "of-a-file"),))),
                read(server.stub.Transcribe(live(portioned(speech)), metadata=(("x-request-id", "of-a-session"),))),
            )
    ids = {log["request_id"] for log in logs if log["event"] == "decoding"}
    assert ids == {"of-a-file", "of-a-session"}


def test_the_program_tells_prometheus_what_it_has() -> None:
    own = {
        "ASR_PORT": "0",
        "ASR_METRICS_PORT": "0",
        "ASR_MODELS": MODEL,
        "LOG_FORMAT": "json",
        "OTEL_TRACES_EXPORTER": "none",
    }
    command = [sys.executable, "-m", "services.asr"]
    with subprocess.Popen(command, env={**os.environ, **own}, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            ready = next(line for line in map(json.loads, process.stderr) if line["event"] == "ready")
            with urllib.request.urlopen(f"http://127.0.0.1:{ready['metrics_port']}/metrics", timeout=10) as answer:
                families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}
        finally:
            process.terminate()
            process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0
    (loaded,) = families["stt_model_loaded"].samples
    assert (loaded.labels, loaded.value) == ({"model": MODEL, "device": "cpu"}, 1)
    waits = {sample.labels["kind"]: sample.value for sample in families["stt_queue_length"].samples}
    assert waits == {"final": 0, "look": 0, "file": 0}
    assert {
        "stt_requests_running", "stt_requests_limit", "stt_engine_workers", "stt_engine_busy_seconds",
        "stt_queue_wait_seconds", "stt_batch_size", "stt_real_time_factor", "stt_partial_latency_seconds",
        "stt_final_latency_seconds", "stt_interim_words", "stt_interim_words_taken_back", "stt_final_words",
        "stt_build_info", "process_resident_memory_bytes",
    } <= set(families)  # fmt: skip
