"""What each tier may: how much, how long, how many at a time."""

import asyncio
import time
from collections.abc import Callable

import aiohttp
import pytest

from tests.edge.conftest import Edge, FakeServices, StartEdge, form_of, silence
from tests.edge.metering.conftest import OpenAccount, Visitor, running

Visit = Callable[..., Visitor]
MB = 1024 * 1024


async def test_an_address_without_a_key_has_three_transcriptions_a_day(visit: Visit, quiet: bytes) -> None:
    answers = [await visit().transcribe(quiet) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    refused = answers[-1]
    assert refused.json["code"] == "QUOTA_EXCEEDED"
    to_midnight_s = 86_400 - time.time() % 86_400
    assert 0 <= int(refused.headers["Retry-After"]) - to_midnight_s <= 5


async def test_another_address_has_its_own_three(visit: Visit, quiet: bytes) -> None:
    for _ in range(3):
        await visit("192.0.2.1").transcribe(quiet)
    assert (await visit("192.0.2.2").transcribe(quiet)).status == 200


async def test_addresses_of_one_ipv6_network_share_them(visit: Visit, quiet: bytes) -> None:
    statuses = [(await visit(f"2001:db8:0:1::{number}").transcribe(quiet)).status for number in range(1, 5)]
    assert statuses == [200, 200, 200, 429]
    assert (await visit("2001:db8:0:2::1").transcribe(quiet)).status == 200


async def test_a_forwarded_address_is_not_believed_without_a_trusted_proxy(
    visit: Visit, start_edge: StartEdge, fakes: FakeServices, quiet: bytes
) -> None:
    edge = await start_edge(**fakes.addresses)
    statuses = [(await visit(f"192.0.2.{number}", edge).transcribe(quiet)).status for number in range(4)]
    assert statuses == [200, 200, 200, 429]


async def test_what_a_caller_writes_left_of_his_address_is_not_believed(visit: Visit, quiet: bytes) -> None:
    statuses = [(await visit(f"198.51.100.{number}, 192.0.2.9").transcribe(quiet)).status for number in range(4)]
    assert statuses == [200, 200, 200, 429]


async def test_only_what_succeeds_counts(visit: Visit, quiet: bytes) -> None:
    for _ in range(4):
        assert (await visit().transcribe(b"no recording")).status == 400
    assert (await visit().transcribe(quiet)).status == 200


async def test_speech_that_gave_no_words_is_none_of_the_three(visit: Visit, fakes: FakeServices, quiet: bytes) -> None:
    fakes.asr.segments, fakes.asr.voiced_s = [], 0.5
    assert [(await visit().transcribe(quiet)).status for _ in range(4)] == [200] * 4
    fakes.asr.voiced_s = 0.0
    assert [(await visit().transcribe(quiet)).status for _ in range(4)] == [200, 200, 200, 429]


async def test_an_address_without_a_key_has_one_request_at_a_time(
    visit: Visit, fakes: FakeServices, quiet: bytes
) -> None:
    first = await running(fakes.asr, visit().transcribe(quiet))
    second = await visit().transcribe(quiet)
    assert second.status == 429
    assert second.json["code"] == "TOO_MANY_REQUESTS"
    assert int(second.headers["Retry-After"]) > 0
    fakes.asr.proceed.set()
    assert (await first).status == 200
    assert (await visit().transcribe(quiet)).status == 200


@pytest.mark.parametrize(("tier", "most"), [("free", 2), ("paid", 5)])
async def test_a_tier_has_its_number_of_requests_at_a_time(
    tier: str, most: int, proxied: Edge, fakes: FakeServices, open_account: OpenAccount, quiet: bytes
) -> None:
    account = await open_account(tier, credits=100)
    fakes.asr.proceed.clear()
    answers = [asyncio.ensure_future(proxied.transcribe(quiet, account.headers)) for _ in range(most + 1)]
    done, waiting = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
    assert [answer.result().status for answer in done] == [429]
    fakes.asr.proceed.set()
    assert {(await answer).status for answer in waiting} == {200}


async def test_limits_are_the_accounts_whatever_the_key(
    proxied: Edge, fakes: FakeServices, open_account: OpenAccount, quiet: bytes
) -> None:
    account = await open_account("free")
    first = await running(fakes.asr, proxied.transcribe(quiet, account.headers))
    second = await running(fakes.asr, proxied.transcribe(quiet, (await account.another_key()).headers))
    third = await proxied.transcribe(quiet, account.headers)
    fakes.asr.proceed.set()
    assert [(await first).status, (await second).status, third.status] == [200, 200, 429]


async def test_a_free_account_has_its_minutes_of_a_month(
    start_edge: StartEdge, fakes: FakeServices, open_account: OpenAccount
) -> None:
    edge, account = await start_edge(free_minutes=3, **fakes.addresses), await open_account("free")
    assert (await edge.transcribe(silence(61), account.headers)).status == 200
    too_long = await edge.transcribe(silence(61), account.headers)
    assert (too_long.status, too_long.json["error"]) == (429, "This audio needs 2 minutes; 1 remain this month.")
    assert (await edge.transcribe(silence(60), account.headers)).status == 200
    over = await edge.transcribe(silence(1), account.headers)
    assert over.status == 429
    assert 0 < int(over.headers["Retry-After"]) <= 31 * 86_400
    assert (await account.settled(minutes=3))["balance"] == 0


async def test_a_file_over_the_tiers_size_is_refused_by_its_head(
    start_edge: StartEdge, fakes: FakeServices, open_account: OpenAccount, http: aiohttp.ClientSession
) -> None:
    edge = await start_edge(anonymous_upload_bytes=MB, free_upload_bytes=2 * MB, **fakes.addresses)
    account = await open_account("free")
    content = bytes(2 * MB + 4096)
    async with http.post(f"{edge.url}/v1/transcribe", data=form_of(content)) as refused:
        assert refused.status == 413
        assert "1 MB" in (await refused.json())["error"]
    assert (await edge.transcribe(content, account.headers)).status == 413
    assert (await edge.transcribe(content[: 2 * MB - 4096], account.headers)).status == 400  # it is no media


async def test_audio_over_the_tiers_length_is_refused_when_it_is_decoded(
    start_edge: StartEdge, fakes: FakeServices, open_account: OpenAccount
) -> None:
    edge = await start_edge(free_audio_s=60, paid_audio_s=120, **fakes.addresses)
    free, paid = await open_account("free"), await open_account("paid", credits=9)
    assert (await edge.transcribe(silence(61), free.headers)).status == 413
    assert (await edge.transcribe(silence(61), paid.headers)).status == 200
    assert (await free.settled(minutes=0))["held"] == 0


async def test_a_bad_request_is_told_before_a_used_up_quota(visit: Visit, quiet: bytes) -> None:
    for _ in range(3):
        await visit().transcribe(quiet)
    refused = await visit().transcribe(quiet, {"Content-Type": "text/plain"})
    assert refused.status == 400
