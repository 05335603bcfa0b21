"""What limits and credits add to a request: admission, reservation and settlement, the edge on one core.

Run as a program it is the edge's part: `python -m tests.bench.metering RATE SECONDS`, requests at random moments,
whatever becomes of the ones before. The store writes every change to disk before it answers.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from services.edge.accounts.authentication import Authenticator
from services.edge.accounts.registry import Registry
from services.edge.accounts.signing import Signer
from services.edge.metering.meter import Meter
from services.edge.metering.store import Store, connect
from services.edge.metering.tiers import tiers
from services.edge.settings import EdgeSettings
from tests.bench.figures import Figure, Measured, Target
from tests.bench.latency import percentiles
from tests.bench.plan import Plan
from tests.embedded_store import valkey

_RATE, _STEP, _MOST = 200, 100, 2_000
_SECONDS, _QUICK_SECONDS = 20, 5
_ADDED_MS = 5.0
_ACCOUNTS, _CREDITS = 50, 1_000_000
_CORE = 0


def measure(plan: Plan, log_dir: Path) -> Measured:
    """Take 200 requests a second and, but for `--quick`, more until that is too many."""
    seconds = _QUICK_SECONDS if plan.quick else _SECONDS
    series: dict[str, list[float]] = {"requests_per_s": [], "p50_ms": [], "p95_ms": []}
    figures: list[Figure] = []
    for rate in range(_RATE, _MOST + 1, _STEP):
        plan.say(f"Metering {rate} requests a second on one core ...")
        taken = _take(rate, seconds)
        added, write, key = (percentiles(taken[name]) for name in ("added_ms", "write_ms", "key_ms"))
        for name, value in zip(series, (rate, added[0], added[1]), strict=True):
            series[name].append(value)
        if rate == _RATE:
            what = f"metering adds at {rate} requests/s on one core"
            figures += [
                Figure(f"{what}, p50", added[0], "ms", alone=write[0], note="alone: one write to the same store"),
                Figure(f"{what}, p95", added[1], "ms", Target(_ADDED_MS), alone=write[1]),
                Figure("the key before that, p50", key[0], "ms"),
                Figure("the key before that, p95", key[1], "ms"),
            ]
        if added[1] > _ADDED_MS:
            note = f"at {rate} the p95 is {added[1]:.1f} ms"
            figures.append(Figure("most requests/s within that", rate - _STEP, "/s", note=note))
            break
        if plan.quick:
            break
    return Measured(figures, {"metering": series})


def _take(rate: int, seconds: int) -> dict[str, list[float]]:
    """Run the edge's part on one core and its store beside it; return what each request saw."""
    others = [core for core in psutil.Process().cpu_affinity() if core != _CORE] or [_CORE]
    with TemporaryDirectory() as folder, valkey(Path(folder)) as keeper:
        for process in (psutil.Process(keeper.pid), *psutil.Process(keeper.pid).children()):
            process.cpu_affinity(others)
        command = [sys.executable, "-m", "tests.bench.metering", str(rate), str(seconds)]
        environment = {**os.environ, "DATA_DIR": folder, "REDIS_URL": ""}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


async def _serve(rate: int, seconds: int) -> dict[str, list[float]]:
    settings = EdgeSettings(paid_concurrent=100_000)
    async with AsyncExitStack() as stack:
        store = Store(await stack.enter_async_context(connect(settings.redis_url, settings.data_dir)))
        authenticator = await stack.enter_async_context(Authenticator(store, settings))
        meter = await stack.enter_async_context(Meter(store, tiers(settings), settings.lease_s, settings.grace_s))
        registry, signer = Registry(store), Signer.in_memory()
        names = [await registry.create("paid", _CREDITS) for _ in range(_ACCOUNTS)]
        keys = [await registry.new_key(name, signer) for name in names]

        async def request() -> None:
            begun_s = time.perf_counter()
            caller = await authenticator.authenticate(random.choice(keys))
            known_s = time.perf_counter()
            async with await meter.admit(caller, "transcription") as job:
                await job.reserve(1)
                settling = job.settle(1)
            assert settling is not None
            await settling
            seen["key_ms"].append((known_s - begun_s) * 1000)
            seen["added_ms"].append((time.perf_counter() - known_s) * 1000)

        async def write() -> None:
            begun_s = time.perf_counter()
            await store.redis.hincrby("bench", "written", 1)
            seen["write_ms"].append((time.perf_counter() - begun_s) * 1000)

        seen: dict[str, list[float]] = defaultdict(list)
        await _arrive(request, rate, 1)
        seen.clear()
        await _arrive(request, rate, seconds)
        await _arrive(write, rate, seconds / 4)
        return seen


async def _arrive(work: Callable[[], Awaitable[None]], rate: int, seconds: float) -> None:
    """Begin `work` at random moments, `rate` times a second, to the millisecond that timers keep to."""
    due_s = time.perf_counter()
    end_s = due_s + seconds
    async with asyncio.TaskGroup() as tasks:
        while (due_s := due_s + random.expovariate(rate)) < end_s:
            await asyncio.sleep(due_s - time.perf_counter())
            tasks.create_task(work())


def main() -> None:
    """Be the edge's part."""
    os.sched_setaffinity(0, {_CORE})
    print(json.dumps(asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))))


if __name__ == "__main__":
    main()
