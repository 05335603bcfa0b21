"""What a live session costs, and what happens when there is nothing left to pay it with."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from services.common.errors import Reason, SttError
from tests.edge.conftest import Edge, StartEdge
from tests.edge.fakes import FakeLiveAsr
from tests.edge.metering.conftest import Account, OpenAccount, http, open_account
from tests.edge.stream.conftest import CONFIG, SECOND, STOP, Client

__all__ = ["http", "open_account"]

Open = Callable[..., Awaitable[Client]]


@pytest.fixture
async def enter(edge: Edge, http: aiohttp.ClientSession) -> AsyncIterator[Open]:
    """Connects with an account's key in the query, as the vendor's SDKs do."""
    async with AsyncExitStack() as stack:

        async def enter(account: Account, at: Edge = edge) -> Client:
            url = f"{at.url}/v1/stream"
            return Client(await stack.enter_async_context(http.ws_connect(url, params={"token": account.key})))

        yield enter


async def test_a_session_costs_its_minutes_rounded_up(enter: Open, open_account: OpenAccount) -> None:
    account = await open_account(credits=10)
    client = await enter(account)
    await client.say(CONFIG, *[SECOND] * 61, STOP)
    assert (await client.hear_out())[1] == 1000
    await account.settled(balance=8, spent=2, held=0)


async def test_a_minute_is_held_when_it_begins(enter: Open, open_account: OpenAccount) -> None:
    account = await open_account(credits=10)
    client = await enter(account)
    assert (await account.show())["held"] == 0
    await client.say(CONFIG, SECOND)
    await client.hear_until(partial="word1")
    assert (await account.show())["held"] == 1
    await client.say(*[SECOND] * 60)
    await client.hear_until(partial="word61")
    assert (await account.show())["held"] == 2


async def test_out_of_credits_what_was_heard_is_sent_before_the_error(enter: Open, open_account: OpenAccount) -> None:
    account = await open_account(credits=1)
    client = await enter(account)
    await client.say(CONFIG, *[SECOND] * 62)
    messages, code = await client.hear_out()
    assert code == 1008
    assert messages[-1]["type"] == "error"
    assert messages[-1]["error"] == "This audio needs 2 credits; 1 remain."
    assert messages[-1]["warnings"] == ["Audio from 60.0 seconds on was not transcribed."]
    said = " ".join(message["text"] for message in messages if message.get("type") == "transcript")
    assert said.split() == [f"word{number}" for number in range(1, 61)]
    assert not any(message.get("is_final") for message in messages)
    await account.settled(balance=0, spent=1)


async def test_a_session_without_audio_costs_nothing(enter: Open, open_account: OpenAccount) -> None:
    account = await open_account(credits=10)
    client = await enter(account)
    await client.say(CONFIG, STOP)
    assert (await client.hear_out())[1] == 1000
    await account.settled(balance=10)


async def test_who_just_closes_pays_for_what_he_streamed(enter: Open, open_account: OpenAccount) -> None:
    account = await open_account(credits=10)
    client = await enter(account)
    await client.say(CONFIG, SECOND)
    await client.hear_until(partial="word1")
    await client.socket.close()
    await account.settled(balance=9, spent=1)


@pytest.mark.parametrize("reason", [Reason.INTERNAL, Reason.OVERLOADED])
async def test_a_session_that_the_server_breaks_costs_nothing(
    reason: Reason, enter: Open, asr: FakeLiveAsr, open_account: OpenAccount
) -> None:
    account = await open_account(credits=10)
    client = await enter(account)
    await client.say(CONFIG, SECOND)
    await client.hear_until(partial="word1")
    asr.error = SttError(reason, "It fails.", retry_after_s=1)
    await client.say(SECOND)
    assert (await client.hear_out())[1] in (1011, 1013)
    await account.settled(balance=10, spent=0)


async def test_a_session_of_a_server_that_stops_costs_nothing(
    enter: Open, edge: Edge, open_account: OpenAccount
) -> None:
    account = await open_account(credits=10)
    client = await enter(account)
    await client.say(CONFIG, SECOND)
    await client.hear_until(partial="word1")
    stopping = asyncio.create_task(edge.stop())
    assert (await client.hear_out())[1] == 1001
    await stopping
    await account.settled(balance=10, spent=0)


async def test_a_breach_of_the_protocol_does_not_make_what_was_heard_free(
    enter: Open, open_account: OpenAccount
) -> None:
    account = await open_account(credits=10)
    client = await enter(account)
    await client.say(CONFIG, SECOND)
    await client.hear_until(partial="word1")
    await client.say(CONFIG)
    assert (await client.hear_out())[1] == 1008
    await account.settled(balance=9, spent=1)


@pytest.mark.parametrize(("voiced_s", "charged"), [(0.0, 1), (0.7, 0)])
@pytest.mark.parametrize("frames", [[CONFIG, SECOND, STOP], [SECOND, b""]])
async def test_a_session_costs_nothing_where_speech_was_heard_and_no_word_of_it_found(
    frames: list[Any], voiced_s: float, charged: int, enter: Open, asr: FakeLiveAsr, open_account: OpenAccount
) -> None:
    account = await open_account(credits=10)
    asr.words_per_s, asr.voiced_s, asr.last_warnings = 0, voiced_s, ["No words were found."]
    client = await enter(account)
    await client.say(*frames)
    messages, code = await client.hear_out()
    assert (messages[-1]["warnings"], code) == (["No words were found."], 1000)
    await account.settled(balance=10 - charged, spent=charged, held=0)


async def test_a_session_with_a_word_costs_its_minutes_also_where_some_speech_gave_none(
    enter: Open, asr: FakeLiveAsr, open_account: OpenAccount
) -> None:
    account = await open_account(credits=10)
    asr.voiced_s = 1.0
    client = await enter(account)
    await client.say(CONFIG, SECOND, STOP)
    assert (await client.hear_out())[1] == 1000
    await account.settled(balance=9, spent=1)


async def test_a_session_without_a_key_that_gave_no_words_is_none_of_three_a_day(
    edge: Edge, asr: FakeLiveAsr, http: aiohttp.ClientSession
) -> None:
    asr.words_per_s, asr.voiced_s = 0, 1.0
    for _ in range(4):
        async with http.ws_connect(f"{edge.url}/v1/stream") as socket:
            client = Client(socket)
            await client.say(CONFIG, SECOND, STOP)
            assert (await client.hear_out())[1] == 1000


async def test_the_audio_of_a_session_counts_against_the_tiers_file_size(
    start_edge: StartEdge, asr_address: str, enter: Open, open_account: OpenAccount
) -> None:
    edge = await start_edge(asr_address=asr_address, paid_upload_bytes=3 * len(SECOND))
    account = await open_account(credits=10)
    client = await enter(account, edge)
    await client.say(CONFIG, *[SECOND] * 4)
    messages, code = await client.hear_out()
    assert code == 1009
    assert [message["text"] for message in messages if message.get("type") == "transcript"] == ["word1 word2", "word3"]


async def upgrade(http: aiohttp.ClientSession, edge: Edge, **arguments: Any) -> int:
    """Try to connect; return the status of the answer."""
    try:
        async with http.ws_connect(f"{edge.url}/v1/stream", **arguments):
            return 101
    except aiohttp.WSServerHandshakeError as refused:
        return refused.status


async def test_an_account_without_credits_is_refused_at_the_upgrade(
    edge: Edge, http: aiohttp.ClientSession, open_account: OpenAccount
) -> None:
    account = await open_account(credits=0)
    assert await upgrade(http, edge, headers=account.headers) == 402


async def test_a_session_without_a_key_is_one_of_three_a_day(edge: Edge, http: aiohttp.ClientSession) -> None:
    for _ in range(3):
        async with http.ws_connect(f"{edge.url}/v1/stream") as socket:
            client = Client(socket)
            await client.say(CONFIG, SECOND, STOP)
            assert (await client.hear_out())[1] == 1000
    assert await upgrade(http, edge) == 429


@pytest.mark.parametrize("token", ["", "x", "a.b.c"])
async def test_a_bad_key_in_the_query_is_refused_at_the_upgrade(
    token: str, edge: Edge, http: aiohttp.ClientSession
) -> None:
    assert await upgrade(http, edge, params={"token": token}) == 401


async def test_the_header_beats_the_query(edge: Edge, http: aiohttp.ClientSession, open_account: OpenAccount) -> None:
    account = await open_account(credits=1)
    assert await upgrade(http, edge, params={"token": "x"}, headers=account.headers) == 101
    assert await upgrade(http, edge, params={"token": account.key}, headers={"Authorization": "Bearer x"}) == 401
