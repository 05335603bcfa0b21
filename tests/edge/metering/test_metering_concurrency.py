"""What is asked for at the same moment, at one edge or at several, shares what there is."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from tests.edge.conftest import FakeServices, StartEdge
from tests.edge.metering.conftest import OpenAccount, Visitor


@pytest.mark.parametrize("at_a_time", [5, 20])
async def test_of_twenty_requests_at_once_as_many_run_as_there_are_credits(
    at_a_time: int, start_edge: StartEdge, fakes: FakeServices, open_account: OpenAccount, quiet: bytes
) -> None:
    edge = await start_edge(paid_concurrent=at_a_time, **fakes.addresses)
    account = await open_account(credits=3)
    fakes.asr.proceed.clear()
    requests = [asyncio.ensure_future(edge.transcribe(quiet, account.headers)) for _ in range(20)]
    refused = 0
    for request in asyncio.as_completed(requests):
        refused += (await request).status in (402, 429)
        if refused == 17:  # the others wait for recognition
            fakes.asr.proceed.set()
    assert Counter(request.result().status == 200 for request in requests) == {True: 3, False: 17}
    await account.settled(balance=0, spent=3, held=0)


async def test_two_edges_give_one_address_three_transcriptions_a_day(
    start_edge: StartEdge, fakes: FakeServices, visit: Callable[..., Visitor], quiet: bytes
) -> None:
    edges = [await start_edge(trusted_proxy_hops=1, **fakes.addresses) for _ in range(2)]
    statuses: Counter[int] = Counter()
    for _ in range(10):
        answers = await asyncio.gather(*(visit(edge=edge).transcribe(quiet) for edge in edges))
        statuses.update(answer.status for answer in answers)
    assert statuses == {200: 3, 429: 17}


async def test_two_edges_share_an_accounts_slots(
    start_edge: StartEdge, fakes: FakeServices, open_account: OpenAccount, quiet: bytes
) -> None:
    edges = [await start_edge(paid_concurrent=2, **fakes.addresses) for _ in range(2)]
    account = await open_account(credits=10)
    fakes.asr.proceed.clear()
    requests = [asyncio.ensure_future(edge.transcribe(quiet, account.headers)) for edge in edges for _ in range(2)]
    refused = 0
    for request in asyncio.as_completed(requests):
        refused += (await request).status == 429
        if refused == 2:
            fakes.asr.proceed.set()
    assert Counter(request.result().status for request in requests) == {200: 2, 429: 2}
