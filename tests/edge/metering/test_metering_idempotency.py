"""Idempotency-Key: what is sent again is answered again, and paid once."""

from typing import Any

import aiohttp
import pytest

from services.common.errors import Reason, SttError
from tests.edge.conftest import Answer, Edge, FakeServices, form_of, silence
from tests.edge.metering.conftest import Account, OpenAccount, events, running

KEY = {"Idempotency-Key": "order-1"}
EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture
def edge(proxied: Edge) -> Edge:
    return proxied


@pytest.fixture
async def account(open_account: OpenAccount) -> Account:
    return await open_account(credits=10)


async def test_the_same_request_gets_the_first_answer_and_pays_nothing(
    edge: Edge, fakes: FakeServices, account: Account, quiet: bytes
) -> None:
    first = await edge.transcribe(quiet, KEY | account.headers, language="en")
    fakes.asr.segments = []
    again = await edge.transcribe(quiet, KEY | account.headers, language="en")
    assert again.body == first.body
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert (first.headers["X-Credits-Charged"], again.headers["X-Credits-Charged"]) == ("1", "0")
    assert (first.headers["X-Credits-Remaining"], again.headers["X-Credits-Remaining"]) == ("9", "9")
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    await account.settled(balance=9, spent=1)


async def test_a_first_answer_comes_also_to_an_account_that_has_spent_its_last_credit(
    edge: Edge, open_account: OpenAccount, quiet: bytes
) -> None:
    account = await open_account(credits=1)
    statuses = [(await edge.transcribe(quiet, KEY | account.headers)).status for _ in range(2)]
    assert statuses == [200, 200]
    assert (await edge.transcribe(quiet, account.headers)).status == 402


@pytest.mark.parametrize(
    "change", [{"content": silence(2)}, {"language": "en"}, {"keywords": "Nell"}, {"model": "fake-en"}]
)
async def test_another_request_with_the_same_key_is_refused(
    change: dict[str, Any], edge: Edge, account: Account, quiet: bytes
) -> None:
    await edge.transcribe(quiet, KEY | account.headers)
    other = await edge.transcribe(**({"content": quiet, "headers": KEY | account.headers} | change))
    assert other.status == 400
    assert "Idempotency-Key" in other.json["error"]
    await account.settled(spent=1)


async def test_another_accounts_key_of_the_same_name_is_another_key(
    edge: Edge, account: Account, open_account: OpenAccount, quiet: bytes
) -> None:
    await edge.transcribe(quiet, KEY | account.headers)
    other = await open_account(credits=5)
    answer = await edge.transcribe(silence(2), KEY | other.headers)
    assert (answer.status, answer.headers["X-Credits-Charged"]) == (200, "1")


async def test_while_the_first_runs_the_second_is_told_to_come_back(
    edge: Edge, fakes: FakeServices, account: Account, quiet: bytes
) -> None:
    first = await running(fakes.asr, edge.transcribe(quiet, KEY | account.headers))
    second = await edge.transcribe(quiet, KEY | account.headers)
    assert (second.status, second.json["code"]) == (409, "IDEMPOTENCY_CONFLICT")
    assert int(second.headers["Retry-After"]) > 0
    fakes.asr.proceed.set()
    assert (await first).status == 200
    await account.settled(spent=1)


async def test_a_failure_is_not_remembered(edge: Edge, fakes: FakeServices, account: Account, quiet: bytes) -> None:
    fakes.asr.error = SttError(Reason.INTERNAL, "It fails.")
    assert (await edge.transcribe(quiet, KEY | account.headers)).status == 500
    fakes.asr.error = None
    await account.settled(balance=10)
    assert (await edge.transcribe(silence(2), KEY | account.headers)).status == 200
    await account.settled(spent=1)


async def test_who_hung_up_after_the_charge_gets_the_answer_with_his_key(
    edge: Edge, fakes: FakeServices, account: Account, quiet: bytes
) -> None:
    fakes.asr.proceed.clear()
    url, headers = f"{edge.url}/v1/transcribe", EVENTS | KEY | account.headers
    async with edge.http.post(url, data=form_of(quiet), headers=headers) as answer:
        async for name, _ in events(answer):
            if name == "segment":
                break
    await account.settled(spent=1)
    fakes.asr.proceed.set()
    whole = await edge.transcribe(quiet, headers)
    assert b"event: result" in whole.body
    assert whole.headers["X-Credits-Charged"] == "0"
    await account.settled(spent=1, balance=9)


async def test_a_summary_is_answered_again_too(edge: Edge, fakes: FakeServices, account: Account) -> None:
    async def summarize(text: str) -> Answer:
        return await edge.request("POST", "/v1/summarize", json={"text": text}, headers=KEY | account.headers)

    first = await summarize("Hello.")
    fakes.summarize.warnings = ["It was asked again."]
    assert (await summarize("Hello.")).json == first.json
    assert (await summarize("Hello!")).status == 400


async def test_a_caller_without_an_account_has_no_idempotency_keys(
    edge: Edge, http: aiohttp.ClientSession, quiet: bytes
) -> None:
    async with http.post(f"{edge.url}/v1/transcribe", data=form_of(quiet), headers=KEY) as refused:
        assert refused.status == 400


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "é"])
async def test_a_key_that_is_none_is_refused(key: str, edge: Edge, account: Account, quiet: bytes) -> None:
    assert (await edge.transcribe(quiet, {"Idempotency-Key": key} | account.headers)).status == 400
