"""The audit: it agrees while the books are right, also while they are written, and finds what was changed by hand."""

import asyncio
import json

import pytest

from services.edge.accounts.audit import Discrepancy, audit
from services.edge.accounts.registry import Registry
from services.edge.metering.store import Store
from services.edge.metering.store import account as subject_of
from services.edge.metering.tiers import tiers
from services.edge.settings import EdgeSettings

LIMITS = json.dumps({tier: limits.to_json() for tier, limits in tiers(EdgeSettings(paid_concurrent=100)).items()})


async def run_job(store: Store, name: str, job: str, end: str) -> None:
    """Admit and reserve a job, and end it by settling it, by releasing it or not at all."""
    subject = subject_of(name)
    await store.run("admit", subject, job, 30_000, "transcription", LIMITS, "account", operation=job)
    await store.run("reserve", subject, job, 3, 0, "", operation=job)
    if end == "settle":
        await store.run("settle", subject, job, 2, "free", operation=job)
    elif end == "release":
        await store.run("release", subject, job, operation=job)


async def test_it_agrees_after_jobs_of_every_end(store: Store, registry: Registry, account: str) -> None:
    for end in ("settle", "release", "none"):
        await run_job(store, account, end, end)
    assert await audit(registry, account) == []
    state = await registry.show(account)
    assert (state["balance"], state["held"], state["spent"]) == (5, 3, 2)


async def test_it_raises_no_false_alarm_while_jobs_run(store: Store, registry: Registry) -> None:
    name = await registry.create("paid", 1_000)
    jobs = asyncio.gather(*(run_job(store, name, f"job-{n}", ("settle", "release")[n % 2]) for n in range(200)))
    while not jobs.done():
        assert await audit(registry, name) == []
    await jobs
    assert (await registry.show(name))["spent"] == 200


@pytest.mark.parametrize("figure", ["balance", "granted", "spent", "written_off"])
async def test_it_finds_a_figure_that_was_changed(figure: str, store: Store, registry: Registry, account: str) -> None:
    await store.redis.hincrby(subject_of(account).key("state"), figure, 1)
    assert figure in {each.figure for each in await audit(registry, account)}


async def test_it_finds_a_figure_that_is_no_number(store: Store, registry: Registry, account: str) -> None:
    await store.redis.hset(subject_of(account).key("state"), "balance", "x")
    assert await audit(registry, account) == [Discrepancy(account, "balance", None, 10)]


@pytest.mark.parametrize("entry", [{"foo": "bar"}, {"at": "1", "kind": "grant", "job": "x", "granted": "much"}])
async def test_it_finds_an_entry_that_is_none(
    entry: dict[str, str], store: Store, registry: Registry, account: str
) -> None:
    await store.redis.xadd(subject_of(account).key("ledger"), dict(entry))
    assert await audit(registry, account) == [Discrepancy(account, "ledger")]


async def test_it_finds_an_account_of_which_only_the_ledger_is_left(
    store: Store, registry: Registry, account: str
) -> None:
    await store.redis.delete(subject_of(account).key("state"))
    assert await registry.names() == [account]
    assert await audit(registry, account) == [Discrepancy(account, "state")]


async def test_it_finds_an_entry_that_is_gone(store: Store, registry: Registry, account: str) -> None:
    await registry.grant(account, 5)
    ledger = subject_of(account).key("ledger")
    (first, _), _ = await store.redis.xrange(ledger)
    await store.redis.xdel(ledger, first)
    assert {each.figure for each in await audit(registry, account)} == {"balance", "granted"}
