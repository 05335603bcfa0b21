"""Edges and store are killed at any moment, and nobody is charged for what he did not get, or twice for what he did."""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from services.edge.accounts.audit import audit
from services.edge.accounts.registry import Registry
from services.edge.metering.store import Store, connect
from tests.edge.conftest import form_of
from tests.edge.fakes import FakeLiveAsr, FakeSummarize, serving
from tests.prove.crashes import LEASE_S, Client, Edge, Job, Killer
from tests.store import valkey

IS_LONG = os.environ.get("PROVE") == "long"
KILLS = 220 if IS_LONG else 5
CLIENTS = 6
RESOLVED_S = 60
"""When at the latest no job of the dead runs or holds anything any more."""


@pytest.fixture
async def edges(keeper_pid: int, store_folder: Path) -> AsyncIterator[list[Edge]]:
    """Two edges in front of one recognition and one summary service."""
    async with serving(FakeLiveAsr()) as asr_address, serving(FakeSummarize()) as summarize_address:
        settings = {
            "DATA_DIR": str(store_folder),
            "REDIS_URL": "",
            "ASR_ADDRESS": asr_address,
            "SUMMARIZE_ADDRESS": summarize_address,
            "EDGE_LEASE_S": str(LEASE_S),
            "EDGE_GRACE_S": "1",
        }
        edges = [Edge(settings), Edge(settings)]
        await asyncio.gather(*(edge.start() for edge in edges))
        yield edges
        for edge in edges:
            await edge.stop()


@pytest.fixture
def store_folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def keeper_pid(store_folder: Path) -> Iterator[int]:
    """The process that keeps the store running."""
    with valkey(store_folder) as keeper:
        yield keeper.pid


async def test_killed_edges_and_stores_leave_the_books_right(
    keeper_pid: int, store_folder: Path, edges: list[Edge]
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with connect("", store_folder) as redis:
        registry = Registry(Store(redis))
        clients = [Client(edges, registry, random.Random(chance.random())) for _ in range(CLIENTS)]
        killer, enough = Killer(edges, keeper_pid, chance), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(client.work(enough))
            # In the short run the store dies first: after its start nothing is given up for 30 s.
            await killer.kill(KILLS // 5, ["store"] if not IS_LONG else ["store", "edge"])
            await killer.kill(KILLS - KILLS // 5, ["edge"] if not IS_LONG else ["store", "edge", "edge"])
            enough.set()
        last_s = time.monotonic()
        jobs = [job for client in clients for job in client.jobs]
        seen: Counter[str] = Counter()
        for job in jobs:
            seen += await _check(job, registry, last_s + RESOLVED_S)
        for job in jobs:
            await _check_kept(job, registry, edges[0])
    print(f"{sum(killer.kills.values())} kills {dict(killer.kills)}, {len(jobs)} jobs, {dict(seen)}")
    assert seen["answered and charged"] > 0
    # Only an edge that dies between an answer and its settlement gives it away: few do, whatever dies.
    assert seen["answered for nothing"] <= killer.kills["edge"]


async def _check(job: Job, registry: Registry, until_s: float) -> Counter[str]:
    """Compare an account's books with what its one job has given."""
    while (state := await registry.show(job.account))["running"] or state["held"]:
        assert time.monotonic() < until_s, f"{job} still runs: {state}"
        await asyncio.sleep(0.1)
    assert await audit(registry, job.account) == []
    settled = [entry async for entry in registry.ledger(job.account) if entry.kind == "settle"]
    charged = state["spent"] if job.tier == "paid" else state["minutes"]
    assert len(settled) <= 1, f"{job} was charged twice: {settled}"
    assert charged in (0, job.cost)
    assert state["written_off"] == 0
    if job.kind != "keyed":
        assert job.is_answered or not charged, f"{job} was charged for nothing: {settled}"
    if job.kind == "summary":
        return Counter({"summaries": 1})
    outcome = "answered" if job.is_answered else "not answered"
    return Counter({f"{outcome} {'and charged' if charged else 'for nothing'}": 1})


async def _check_kept(job: Job, registry: Registry, edge: Edge) -> None:
    """See to it that who was charged for a request with an Idempotency-Key can have the answer, and pays no more."""
    state = await registry.show(job.account)
    if job.kind != "keyed" or not (state["spent"] or state["minutes"]):
        return
    form = form_of(job.content, diarize="false")
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{edge.url}/v1/transcribe", data=form, headers=job.headers) as answer,
    ):
        assert answer.status == 200
        assert answer.headers["Idempotent-Replayed"] == "true"
    assert (await registry.show(job.account))["spent"] == state["spent"]
