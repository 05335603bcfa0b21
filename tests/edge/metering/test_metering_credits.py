"""What costs, what does not, and what the caller is told of it."""

import asyncio
import json

import aiohttp
import pytest

from services.common.errors import Reason, SttError
from services.edge.accounts.audit import audit
from tests.edge.conftest import Edge, FakeServices, form_of, silence
from tests.edge.fakes import segment
from tests.edge.metering.conftest import OpenAccount, events, running

EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture
def edge(proxied: Edge) -> Edge:
    return proxied


@pytest.mark.parametrize(("seconds", "cost"), [(1, 1), (60, 1), (61, 2)])
async def test_a_minute_that_has_begun_costs_a_credit(
    seconds: int, cost: int, edge: Edge, open_account: OpenAccount
) -> None:
    account = await open_account(credits=10)
    answer = await edge.transcribe(silence(seconds), account.headers)
    assert answer.status == 200
    assert answer.headers["X-Credits-Charged"] == str(cost)
    assert answer.headers["X-Credits-Remaining"] == str(10 - cost)
    await account.settled(balance=10 - cost, spent=cost, held=0)


async def test_a_header_that_lies_about_the_length_does_not_change_the_price(
    edge: Edge, open_account: OpenAccount
) -> None:
    account = await open_account(credits=10)
    wav = bytearray(silence(61))
    wav[40:44] = (8_000).to_bytes(4, "little")  # one second of data, it says
    wav[4:8] = (8_036).to_bytes(4, "little")
    answer = await edge.transcribe(bytes(wav), account.headers)
    assert answer.status == 200
    assert answer.headers["X-Credits-Charged"] == str(-(-round(answer.json["duration"] * 1000) // 60_000))


async def test_audio_that_costs_more_than_there_is_runs_not_at_all(
    edge: Edge, fakes: FakeServices, open_account: OpenAccount
) -> None:
    account = await open_account(credits=1)
    refused = await edge.transcribe(silence(61), account.headers)
    assert (refused.status, refused.json["error"]) == (402, "This audio needs 2 credits; 1 remain.")
    assert not fakes.asr.listening.is_set()
    await account.settled(balance=1, spent=0)


async def test_an_account_without_credits_is_refused_before_its_body_is_read(
    edge: Edge, open_account: OpenAccount
) -> None:
    account = await open_account(credits=0)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(
        b"POST /v1/transcribe HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n" + f"Authorization: Bearer {account.key}\r\n\r\n".encode()
    )
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readuntil(b"}")
    writer.close()
    assert head.startswith(b"HTTP/1.1 402 ")
    assert json.loads(body)["error"] == "No credits remaining. Upgrade your plan."


@pytest.mark.parametrize("reason", [Reason.INTERNAL, Reason.MODEL_UNAVAILABLE])
async def test_a_failure_costs_nothing(
    reason: Reason, edge: Edge, fakes: FakeServices, open_account: OpenAccount, quiet: bytes
) -> None:
    account = await open_account(credits=10)
    fakes.asr.error = SttError(reason, "It fails.")
    assert (await edge.transcribe(quiet, account.headers)).status >= 500
    await account.settled(balance=10, spent=0, held=0)


async def test_who_hangs_up_before_his_answer_pays_nothing(
    edge: Edge, fakes: FakeServices, open_account: OpenAccount, quiet: bytes
) -> None:
    account = await open_account(credits=10)
    request = await running(fakes.asr, edge.transcribe(quiet, account.headers))
    assert (await account.show())["held"] == 1
    request.cancel()
    await account.settled(balance=10, spent=0, held=0)


async def test_events_are_paid_from_the_first_segment_on(
    edge: Edge, fakes: FakeServices, open_account: OpenAccount, quiet: bytes
) -> None:
    account = await open_account(credits=10)
    fakes.asr.proceed.clear()
    async with edge.http.post(
        f"{edge.url}/v1/transcribe", data=form_of(quiet), headers=EVENTS | account.headers
    ) as answer:
        async for name, _ in events(answer):
            if name == "segment":
                break
        assert (await account.comes_to(spent=1))["running"] == 1
    await account.settled(balance=9, spent=1, held=0)


async def test_events_that_fail_before_a_segment_cost_nothing(
    edge: Edge, fakes: FakeServices, open_account: OpenAccount, quiet: bytes
) -> None:
    account = await open_account(credits=10)
    fakes.asr.segments = []
    fakes.asr.error = SttError(Reason.INTERNAL, "It fails.")
    answer = await edge.transcribe(quiet, EVENTS | account.headers)
    assert b"event: error" in answer.body
    await account.settled(balance=10, spent=0)


async def test_silence_is_a_transcription(
    edge: Edge, fakes: FakeServices, open_account: OpenAccount, quiet: bytes
) -> None:
    account = await open_account(credits=10)
    fakes.asr.segments = []
    assert (await edge.transcribe(quiet, account.headers)).json["text"] == ""
    await account.settled(balance=9)


@pytest.fixture
def mumbling(fakes: FakeServices) -> FakeServices:
    """Speech is heard, and no word of it is found."""
    fakes.asr.segments, fakes.asr.voiced_s = [], 0.4
    fakes.asr.warnings = ["Speech was heard from 0.1 to 0.5 s, and no words were found."]
    return fakes


@pytest.mark.parametrize("headers", [{}, EVENTS, {"Idempotency-Key": "order-1"}])
async def test_speech_that_gave_no_words_is_a_warning_and_free(
    headers: dict[str, str], edge: Edge, mumbling: FakeServices, open_account: OpenAccount
) -> None:
    account = await open_account(credits=10)
    answer = await edge.transcribe(silence(61), headers | account.headers)
    assert answer.status == 200
    assert mumbling.asr.warnings[0] in answer.body.decode()
    await account.settled(balance=10, spent=0, held=0, minutes=0)
    assert await audit(account.registry, account.subject.name) == []


async def test_the_head_of_a_free_answer_says_that_it_was_free(
    edge: Edge, mumbling: FakeServices, open_account: OpenAccount, quiet: bytes
) -> None:
    account = await open_account(credits=10)
    for _ in range(2):
        answer = await edge.transcribe(quiet, {"Idempotency-Key": "order-1"} | account.headers)
        assert (answer.json["text"], answer.json["warnings"]) == ("", mumbling.asr.warnings)
        assert (answer.headers["X-Credits-Charged"], answer.headers["X-Credits-Remaining"]) == ("0", "10")
    assert answer.headers["Idempotent-Replayed"] == "true"


async def test_speech_that_gave_no_words_uses_no_minutes_of_the_month(
    edge: Edge, mumbling: FakeServices, open_account: OpenAccount, quiet: bytes
) -> None:
    account = await open_account("free")
    assert (await edge.transcribe(quiet, account.headers)).status == 200
    await account.settled(minutes=0)


async def test_words_are_paid_for_also_where_some_speech_gave_none(
    edge: Edge, mumbling: FakeServices, open_account: OpenAccount, quiet: bytes
) -> None:
    account = await open_account(credits=10)
    mumbling.asr.segments = [segment(0.0, "Hello.")]
    assert (await edge.transcribe(quiet, account.headers)).headers["X-Credits-Charged"] == "1"
    await account.settled(balance=9, spent=1)


async def test_a_free_account_is_told_that_no_credits_were_charged(
    edge: Edge, open_account: OpenAccount, quiet: bytes
) -> None:
    answer = await edge.transcribe(quiet, (await open_account("free")).headers)
    assert answer.headers["X-Credits-Charged"] == "0"
    assert "X-Credits-Remaining" not in answer.headers


async def test_a_summary_costs_nothing_but_holds_a_slot(
    edge: Edge, fakes: FakeServices, open_account: OpenAccount, quiet: bytes
) -> None:
    account = await open_account("free")
    waiting = [await running(fakes.asr, edge.transcribe(quiet, account.headers)) for _ in range(2)]
    refused = await edge.request("POST", "/v1/summarize", json={"text": "Hello."}, headers=account.headers)
    assert refused.status == 429
    fakes.asr.proceed.set()
    assert {(await answer).status for answer in waiting} == {200}
    answer = await edge.request("POST", "/v1/summarize", json={"text": "Hello."}, headers=account.headers)
    assert (answer.status, answer.headers["X-Credits-Charged"]) == (200, "0")
    await account.settled(minutes=2)


async def test_a_summary_needs_a_key(edge: Edge, http: aiohttp.ClientSession) -> None:
    async with http.post(f"{edge.url}/v1/summarize", json={"text": "Hello."}) as refused:
        assert refused.status == 401
        assert refused.headers["WWW-Authenticate"] == "Bearer"


async def test_usage_tells_how_the_account_stands(
    edge: Edge, fakes: FakeServices, open_account: OpenAccount, quiet: bytes
) -> None:
    account = await open_account(credits=10)
    await edge.transcribe(quiet, account.headers)
    request = await running(fakes.asr, edge.transcribe(silence(61), account.headers))
    usage = (await edge.request("GET", "/v1/usage", headers=account.headers)).json
    fakes.asr.proceed.set()
    await request
    assert usage == {
        "tier": "paid",
        "minutes_this_month": 1,
        "credits": 7,
        "held": 2,
        "running": 1,
        "limits": {"upload_bytes": 2 * 1024**3, "audio_s": 86_400, "concurrent": 5},
    }


async def test_usage_needs_a_key(edge: Edge, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{edge.url}/v1/usage") as refused:
        assert refused.status == 401
