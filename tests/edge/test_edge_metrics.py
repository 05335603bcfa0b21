"""What the edge counts, as Prometheus reads it; it is the process's, so tests look at what changes."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from services.common.errors import Reason, SttError
from services.edge.metering.store import Store
from tests.edge.conftest import Edge, FakeServices, StartEdge, bearer, form_of, silence
from tests.edge.fakes import FakeLiveAsr, serving
from tests.edge.metering.conftest import OpenAccount, events, open_account, running
from tests.edge.stream.conftest import CONFIG, SECOND, STOP, Client
from tests.edge.test_edge_program import services, started

__all__ = ["open_account", "services"]

EVENTS = {"Accept": "text/event-stream"}
Series = tuple[str, tuple[tuple[str, str], ...]]


def series() -> dict[Series, float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name.startswith("stt_")
    }


class Changes:
    """By how much series have changed since this was made."""

    def __init__(self) -> None:
        self._before = series()

    def __call__(self, name: str, **labels: str) -> float:
        return (REGISTRY.get_sample_value(name, labels) or 0.0) - self._before.get(
            (name, tuple(sorted(labels.items()))), 0.0
        )

    async def comes_to(self, change: float, name: str, **labels: str) -> None:
        """Wait until a series has changed by that; the last step of a request is counted after its answer."""
        deadline = time.monotonic() + 10
        while self(name, **labels) != change:
            assert time.monotonic() < deadline, f"{name} {labels}: {change} expected, {self(name, **labels)} found"
            await asyncio.sleep(0.005)


@pytest.fixture
def changed() -> Changes:
    return Changes()


@pytest.fixture
async def asr() -> FakeLiveAsr:
    return FakeLiveAsr()


@pytest.fixture
async def live_edge(asr: FakeLiveAsr, start_edge: StartEdge) -> AsyncIterator[Edge]:
    async with serving(asr) as address:
        yield await start_edge(asr_address=address)


@asynccontextmanager
async def session(edge: Edge) -> AsyncIterator[Client]:
    async with edge.http.ws_connect(f"{edge.url}/v1/stream") as socket:
        yield Client(socket)


async def test_requests_are_counted_by_the_pattern_of_their_path(edge: Edge, changed: Changes) -> None:
    await edge.request("GET", "/v1/models?x=1")
    await edge.request("GET", "/v1/usage", headers={"Authorization": "Bearer wrong"})
    await changed.comes_to(1, "stt_http_requests_total", method="GET", route="/v1/models", status="200")
    await changed.comes_to(1, "stt_http_requests_total", method="GET", route="/v1/usage", status="401")
    assert changed("stt_http_request_duration_seconds_count", route="/v1/models") == 1


async def test_who_hangs_up_before_his_answer_is_counted_as_gone(
    edge: Edge, fakes: FakeServices, quiet: bytes, changed: Changes
) -> None:
    request = await running(fakes.asr, edge.transcribe(quiet))
    request.cancel()
    await changed.comes_to(1, "stt_http_requests_total", method="POST", route="/v1/transcribe", status="gone")


async def test_a_live_session_is_a_request_without_a_duration(live_edge: Edge, changed: Changes) -> None:
    async with session(live_edge) as client:
        await client.say(CONFIG, STOP)
        await client.hear_out()
    await changed.comes_to(1, "stt_http_requests_total", method="GET", route="/v1/stream", status="101")
    assert changed("stt_http_request_duration_seconds_count", route="/v1/stream") == 0


async def test_nothing_that_callers_send_becomes_the_value_of_a_label(
    edge: Edge, fakes: FakeServices, quiet: bytes
) -> None:
    async def send_everything(word: str) -> None:
        for method in ("GET", "DELETE", "PROPFIND"):
            await edge.request(method, f"/{word}")
        await edge.request("GET", f"/v1/models/{word}?{word}={word}")
        await edge.request("PUT", "/v1/transcribe", headers={"User-Agent": word, "X-Request-Id": word})
        assert (await edge.transcribe(quiet, model=word)).status == 400
        assert (await edge.transcribe(quiet, language=word)).status == 400
        await edge.transcribe(quiet, {"Idempotency-Key": word, "Authorization": f"Bearer {word}"})
        await edge.request("POST", "/v1/summarize", json={"text": word, "style": word})
        await edge.request("GET", f"/v1/stream?model={word}&language={word}")
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(f"{word.upper()} /{word} HTTP/1.1\r\nHost: {word}\r\n\r\n".encode())
        assert b"400" in await reader.readline()
        writer.close()
        await writer.wait_closed()

    await send_everything("first")
    known = series().keys()
    for word in ("second", "third"):
        await send_everything(word)
    assert series().keys() == known
    assert not {"first", "FIRST", "PROPFIND"} & {value for _, labels in known for _, value in labels}


async def test_errors_are_counted_by_reason(edge: Edge, quiet: bytes, changed: Changes) -> None:
    await edge.transcribe(quiet, model="none")
    await edge.request("GET", "/nowhere")
    assert changed("stt_errors_total", reason="UNKNOWN_MODEL") == 1
    assert changed("stt_errors_total", reason="NOT_FOUND") == 1


async def test_what_is_not_http_is_counted(edge: Edge, changed: Changes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(b"hello\r\n\r\n")
    await reader.read()
    writer.close()
    assert changed("stt_errors_total", reason="INVALID_REQUEST") == 1
    assert changed("stt_http_requests_total", method="other", route="other", status="400") == 1


@pytest.mark.parametrize("accept", [EVENTS, {}])
async def test_an_error_before_and_one_after_the_head_count_once_each(
    edge: Edge, fakes: FakeServices, quiet: bytes, changed: Changes, accept: dict[str, str]
) -> None:
    """With events the head is sent by then: the error is one of them."""
    fakes.asr.error = SttError(Reason.MODEL_UNAVAILABLE, "It broke.")
    await edge.transcribe(quiet, accept)
    assert changed("stt_errors_total", reason="MODEL_UNAVAILABLE") == 1


def test_every_reason_is_there_before_it_happens() -> None:
    assert all(REGISTRY.get_sample_value("stt_errors_total", {"reason": reason}) is not None for reason in Reason)


async def test_live_sessions_are_counted_by_how_they_end(live_edge: Edge, asr: FakeLiveAsr, changed: Changes) -> None:
    async with session(live_edge) as client:
        await client.say(CONFIG, SECOND, STOP)
        await client.hear_out()
    async with session(live_edge) as client:
        await client.say(CONFIG, SECOND)
        await client.hear_until(partial="word1")
    await changed.comes_to(1, "stt_streams_total", outcome="ok")
    await changed.comes_to(1, "stt_streams_total", outcome="gone")
    asr.refusal = SttError(Reason.OVERLOADED, "Full.")
    async with session(live_edge) as client:
        await client.say(CONFIG, SECOND)
        assert (await client.hear_out())[1] == 1013
    assert changed("stt_streams_total", outcome="OVERLOADED") == 1
    assert changed("stt_errors_total", reason="OVERLOADED") == 1


async def test_recordings_are_counted_while_they_run(
    edge: Edge, fakes: FakeServices, quiet: bytes, changed: Changes
) -> None:
    request = await running(fakes.asr, edge.transcribe(quiet))
    assert changed("stt_requests_running", kind="recording") == 1
    fakes.asr.proceed.set()
    await request
    await changed.comes_to(0, "stt_requests_running", kind="recording")


async def test_live_sessions_are_counted_while_they_run(live_edge: Edge, changed: Changes) -> None:
    async with session(live_edge) as one, session(live_edge) as other:
        for client in (one, other):
            await client.say(CONFIG)
            await client.hear_until(status="ready")
        assert changed("stt_requests_running", kind="live") == 2
    await changed.comes_to(0, "stt_requests_running", kind="live")


async def test_texts_are_counted_while_they_run(edge: Edge, monkeypatch: pytest.MonkeyPatch, changed: Changes) -> None:
    seen: list[float] = []

    async def summarize(*_: Any) -> Any:
        seen.append(changed("stt_requests_running", kind="text"))
        raise SttError(Reason.OVERLOADED, "Full.")

    monkeypatch.setattr("services.edge.backends.Backends.summarize", summarize)
    await edge.request("POST", "/v1/summarize", json={"text": "Hello."})
    assert seen == [1]
    await changed.comes_to(0, "stt_requests_running", kind="text")


async def test_of_a_recording_the_seconds_that_were_decoded_count_and_how_fast_it_was(
    edge: Edge, quiet: bytes, changed: Changes
) -> None:
    started_s = time.monotonic()
    await edge.transcribe(quiet)
    took_s = time.monotonic() - started_s
    assert changed("stt_audio_seconds_total", kind="recording") == pytest.approx(1)
    assert changed("stt_real_time_factor_count") == 1
    assert 0 < changed("stt_real_time_factor_sum") <= took_s


async def test_of_a_live_session_seconds_count_as_they_come(live_edge: Edge, changed: Changes) -> None:
    async with session(live_edge) as client:
        await client.say(CONFIG, *[SECOND] * 3)
        await client.hear_until(partial="word3")
        assert changed("stt_audio_seconds_total", kind="live") == pytest.approx(3)
        await client.say(STOP)
        await client.hear_out()
    assert changed("stt_audio_seconds_total", kind="live") == pytest.approx(3)


async def test_what_the_store_has_charged_is_counted_by_tier(
    edge: Edge, open_account: OpenAccount, two_minutes: bytes, changed: Changes
) -> None:
    paid, free = await open_account("paid", 10), await open_account("free")
    await edge.transcribe(two_minutes, paid.headers)
    await edge.transcribe(two_minutes, free.headers)
    await paid.settled(spent=2)
    await changed.comes_to(2, "stt_credits_charged_total", tier="paid")
    await changed.comes_to(2, "stt_minutes_charged_total", tier="paid")
    await changed.comes_to(2, "stt_minutes_charged_total", tier="free")
    assert changed("stt_credits_charged_total", tier="free") == 0


@pytest.fixture
def two_minutes() -> bytes:
    return silence(120)


async def test_a_job_that_is_settled_twice_counts_once(
    edge: Edge, open_account: OpenAccount, quiet: bytes, changed: Changes
) -> None:
    """Events are paid for with the first segment, and settled again with the answer that is kept for their key."""
    account = await open_account("paid", 10)
    headers = account.headers | EVENTS | {"Idempotency-Key": "once"}
    async with edge.http.post(f"{edge.url}/v1/transcribe", data=form_of(quiet), headers=headers) as answer:
        assert [name async for name, _ in events(answer)][-1] == "result"
    await account.settled(spent=1)
    await changed.comes_to(0, "stt_holds")
    assert changed("stt_store_duration_seconds_count", script="settle") == 2
    assert changed("stt_credits_charged_total", tier="paid") == 1
    replay = await edge.transcribe(quiet, headers)
    assert replay.headers["Idempotent-Replayed"] == "true"
    assert changed("stt_credits_charged_total", tier="paid") == 1


async def test_a_job_holds_until_it_is_settled(edge: Edge, fakes: FakeServices, quiet: bytes, changed: Changes) -> None:
    request = await running(fakes.asr, edge.transcribe(quiet))
    assert changed("stt_holds") == 1
    fakes.asr.proceed.set()
    await request
    await changed.comes_to(0, "stt_holds")


async def test_a_job_that_costs_nothing_in_the_end_holds_no_more(
    edge: Edge, fakes: FakeServices, quiet: bytes, changed: Changes
) -> None:
    fakes.asr.error = SttError(Reason.INTERNAL, "It broke.")
    await edge.transcribe(quiet)
    await changed.comes_to(1, "stt_store_duration_seconds_count", script="release")
    await changed.comes_to(0, "stt_holds")
    assert changed("stt_credits_charged_total", tier="paid") == 0


async def test_a_settlement_that_is_tried_again_waits_and_is_charged_once(
    edge: Edge, fakes: FakeServices, store: Store, open_account: OpenAccount, quiet: bytes, changed: Changes
) -> None:
    account = await open_account("paid", 10)
    request = await running(fakes.asr, edge.transcribe(quiet, account.headers))
    server = psutil.Process((await store.redis.info("server"))["process_id"])
    server.suspend()
    try:
        fakes.asr.proceed.set()
        assert (await request).status == 200
        await changed.comes_to(1, "stt_settlements_waiting")
        assert changed("stt_store_failures_total") >= 1
    finally:
        server.resume()
    await changed.comes_to(0, "stt_settlements_waiting")
    assert (await account.settled(spent=1))["balance"] == 9
    assert changed("stt_credits_charged_total", tier="paid") == 1


async def test_a_settlement_that_the_store_takes_at_once_does_not_wait(
    edge: Edge, quiet: bytes, changed: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    run = Store.run

    async def watched(store: Store, script: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        if script == "settle":
            seen.append(changed("stt_settlements_waiting"))
        return await run(store, script, *arguments, **options)

    monkeypatch.setattr(Store, "run", watched)
    await edge.transcribe(quiet)
    await changed.comes_to(1, "stt_store_duration_seconds_count", script="settle")
    assert seen == [0]


async def test_scripts_of_the_store_are_timed_by_name(edge: Edge, quiet: bytes, changed: Changes) -> None:
    await edge.transcribe(quiet)
    for script in ("admit", "reserve", "settle"):
        await changed.comes_to(1, "stt_store_duration_seconds_count", script=script)


async def test_decodings_are_counted_while_they_run_and_timed(
    edge: Edge, quiet: bytes, two_hours: bytes, changed: Changes
) -> None:
    request = asyncio.create_task(edge.transcribe(two_hours))
    await changed.comes_to(1, "stt_decodings_running")
    assert changed("stt_decoding_duration_seconds_count") == 0
    request.cancel()
    await changed.comes_to(0, "stt_decodings_running")
    assert changed("stt_decoding_duration_seconds_count") == 1


async def test_recordings_in_flight_are_counted_in_bytes(
    edge: Edge, fakes: FakeServices, quiet: bytes, changed: Changes
) -> None:
    request = await running(fakes.asr, edge.transcribe(quiet))
    assert changed("stt_spool_bytes") == 32_000  # the second of PCM; the upload is gone
    fakes.asr.proceed.set()
    await request
    await changed.comes_to(0, "stt_spool_bytes")


async def test_calls_to_the_services_are_counted_by_how_they_end(
    edge: Edge, fakes: FakeServices, quiet: bytes, changed: Changes
) -> None:
    fakes.diarize.error = SttError(Reason.INTERNAL, "It broke.")
    await edge.transcribe(quiet)
    assert changed("stt_backend_calls_total", service="asr", outcome="ok") == 2  # the list of models, too
    assert changed("stt_backend_calls_total", service="diarize", outcome="INTERNAL") == 1


async def test_the_program_serves_them_on_a_port_of_its_own(
    unused_tcp_port: int, tmp_path: Path, services: dict[str, str], key: str, quiet: bytes
) -> None:
    with started(unused_tcp_port, tmp_path, services) as process:
        assert process.stderr is not None
        while not (found := re.search(r"metrics_port\D*(\d+)", await asyncio.to_thread(process.stderr.readline))):
            assert process.poll() is None
        async with aiohttp.ClientSession() as http:
            url = f"http://127.0.0.1:{unused_tcp_port}/v1/transcribe"
            async with http.post(url, data=form_of(quiet), headers=bearer(key)) as answer:
                assert answer.status == 200
            async with http.get(f"http://127.0.0.1:{found[1]}/metrics") as answer:
                families = {family.name: family for family in text_string_to_metric_families(await answer.text())}
    assert families.keys() >= {
        "stt_http_requests", "stt_http_request_duration_seconds", "stt_errors", "stt_streams", "stt_requests_running",
        "stt_audio_seconds", "stt_real_time_factor", "stt_credits_charged", "stt_minutes_charged", "stt_holds",
        "stt_settlements_waiting", "stt_store_duration_seconds", "stt_store_failures", "stt_decodings_running",
        "stt_decoding_duration_seconds", "stt_spool_bytes", "stt_backend_calls", "stt_build_info",
        "process_start_time_seconds",
    }  # fmt: skip
    assert not [name for name in families if name.endswith("_created")]
    heard = {sample.labels["kind"]: sample.value for sample in families["stt_audio_seconds"].samples}
    assert heard == {"recording": pytest.approx(1), "live": 0}
