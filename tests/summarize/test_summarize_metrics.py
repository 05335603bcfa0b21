"""What the summary service counts of its engine, and that the program shows it."""

import asyncio
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from stt.summarize.v1 import summarize_pb2_grpc

from services.summarize.engines.extractive.engine import MODEL, ExtractiveEngine
from tests.outside import Spans, metrics, until, value
from tests.summarize.client import Client, serving

TEXT = "The boat sank. Nobody was hurt."


def waiting() -> float:
    return value("stt_queue_length", kind="text")


async def test_a_text_counts_its_wait_and_what_was_computed() -> None:
    names = ("stt_queue_wait_seconds_count", "stt_batch_size_count")
    before, busy, queue = (
        [value(name, kind="text") for name in names],
        value("stt_engine_busy_seconds_total", model=MODEL),
        waiting(),
    )
    with ThreadPoolExecutor(1) as executor:
        async with serving(ExtractiveEngine(executor), 8) as client:
            await client.summary(TEXT)
    assert [value(name, kind="text") for name in names] == [count + 1 for count in before]
    assert value("stt_engine_busy_seconds_total", model=MODEL) > busy
    assert waiting() == queue


async def test_the_span_of_a_request_tells_what_it_was_about(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = Spans(monkeypatch)
    with ThreadPoolExecutor(1) as executor:
        async with serving(ExtractiveEngine(executor), 8) as client:
            await client.summary(TEXT)
    told = dict(spans.only().attributes or {})
    assert (told["summarize.model"], told["summarize.style"]) == (MODEL, "brief")
    assert told["summarize.characters"] == len(TEXT)


async def test_texts_that_wait_are_shown_until_their_callers_hang_up() -> None:
    release, queue, waited = threading.Event(), waiting(), value("stt_queue_wait_seconds_count", kind="text")
    with ThreadPoolExecutor(1) as executor:
        executor.submit(release.wait)
        async with serving(ExtractiveEngine(executor), 8) as client:
            leaving, staying = client.call(TEXT), asyncio.ensure_future(client.summary(TEXT))
            await until(lambda: waiting() == queue + 2)
            leaving.cancel()
            await until(lambda: waiting() == queue + 1)
            release.set()
            await staying
    assert waiting() == queue
    # Who left has not waited to the end.
    assert value("stt_queue_wait_seconds_count", kind="text") == waited + 1


async def test_the_program_shows_its_metrics_on_the_port_it_names() -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.summarize",
        env={
            **os.environ, "SUMMARIZE_PORT": "0", "SUMMARIZE_MODEL": MODEL, "SUMMARIZE_WORKERS": "3",
            "LOG_FORMAT": "json",
        },
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(30):
            assert program.stderr is not None
            ready = json.loads(await program.stderr.readline())
            async with grpc.aio.insecure_channel(f"127.0.0.1:{ready['port']}") as channel:
                await Client(summarize_pb2_grpc.SummarizeServiceStub(channel)).summary(TEXT)
            shown = await metrics(ready["metrics_port"])
    finally:
        program.kill()
        await program.wait()
    for line in (
        f'stt_model_loaded{{device="cpu",model="{MODEL}"}} 1.0',
        'stt_engine_workers{device="cpu"} 3.0',
        'stt_requests_total{method="Summarize",outcome="ok"} 1.0',
        'stt_requests_limit{kind="text"} 8.0',
        'stt_requests_running{kind="text"} 0.0',
        'stt_queue_length{kind="text"} 0.0',
        'stt_queue_wait_seconds_count{kind="text"} 1.0',
    ):
        assert line in shown
