"""Whatever edges do, and wherever they die, the books are right: a state machine against the scripts in a real store.

The server's clock is a key of the store, so that days, months and years turn within a sequence. A lost reply is a
script that is run again; a dead edge is a job that nobody goes on with; a late one goes on when its lease is over.
"""

import asyncio
import json
import os
import uuid
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from services.edge.metering.store import Store, Subject, account, address, connect
from tests.prove.books import CONCURRENT, DAILY, FREE_MINUTES, LEASE_S, Books, Clock
from tests.store import store_dir

__all__ = ["store_dir"]

IS_LONG = os.environ.get("PROVE") == "long"
SEQUENCES = 10_000 if IS_LONG else 60
CLOCK = """
local function now_ms() return tonumber(redis.call('GET', 'test:now_s')) * 1000 end
local function uptime_s() return tonumber(redis.call('GET', 'test:uptime_s')) end
"""
LIMITS = json.dumps(
    {
        "anonymous": {"concurrent": CONCURRENT["anonymous"], "transcriptions_per_day": DAILY},
        "free": {"concurrent": CONCURRENT["free"], "minutes_per_month": FREE_MINUTES},
        "paid": {"concurrent": CONCURRENT["paid"]},
    }
)
TIMES = st.sampled_from([1, 1, 2, 3])
"""How often a script is run: every reply but the last one was lost."""
JUMPS_S = st.sampled_from([1, 10, 29, 31, 600, 3_600, 86_400, 27 * 86_400, 31 * 86_400, 366 * 86_400])


@dataclass(frozen=True)
class Job:
    """A job as its edge knows it."""

    name: str
    subject: Subject
    key: str | None


class Run:
    """A store with a clock of its own, driven step by step."""

    def __init__(self, folder: Path) -> None:
        self._runner = asyncio.Runner()
        self._folder = folder
        self.wait(self._open())

    async def _open(self) -> None:
        self._connection = connect("", self._folder)
        self.redis = await self._connection.__aenter__()
        self.store = Store(self.redis, CLOCK)

    def close(self) -> None:
        self.wait(self._connection.__aexit__(None, None, None))
        self._runner.close()

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)


@pytest.fixture
def run(store_dir: Path) -> Iterator[Run]:
    run = Run(store_dir)
    yield run
    run.close()


def machine(run: Run) -> type[RuleBasedStateMachine]:
    """Return the state machine on that store."""

    class Machine(RuleBasedStateMachine):
        open_jobs: Bundle[Job] = Bundle("open_jobs")
        ended_jobs: Bundle[tuple[Any, ...]] = Bundle("ended_jobs")

        @initialize(credits=st.integers(0, 6), at=st.integers(1_700_000_000, 1_900_000_000))
        def begin(self, credits: int, at: int) -> None:
            self.clock = Clock(now_s=at)
            suffix = uuid.uuid4().hex
            self.paid, self.free = account(f"paid-{suffix}"), account(f"free-{suffix}")
            self.nobody = address(suffix)
            self.books = {
                self.paid: Books(self.clock, "paid", granted=credits),
                self.free: Books(self.clock, "free"),
                self.nobody: Books(self.clock, "anonymous"),
            }
            self._tick(0)
            for subject, tier, first in ((self.paid, "paid", credits), (self.free, "free", 0)):
                self._script("create", subject, "first", tier, first, operation="first", times=2)

        @rule(to=st.sampled_from(["paid", "free"]), credits=st.integers(1, 5), times=TIMES)
        def grant(self, to: str, credits: int, times: int) -> None:
            subject, operation = getattr(self, to), uuid.uuid4().hex
            self.books[subject].granted += credits
            self._script("grant", subject, operation, credits, operation=operation, times=times)

        @rule(of=st.sampled_from(["paid", "free"]), tier=st.sampled_from(["paid", "free"]))
        def set_tier(self, of: str, tier: str) -> None:
            self.books[getattr(self, of)].tier = tier
            self._script("set_tier", getattr(self, of), tier)

        @rule(
            target=open_jobs,
            of=st.sampled_from(["paid", "paid", "free", "nobody"]),
            work=st.sampled_from(["transcription", "transcription", "summary"]),
            key=st.sampled_from([None, None, "key-1", "key-2"]),
            times=TIMES,
        )
        def admit(self, of: str, work: str, key: str | None, times: int) -> Any:
            subject = getattr(self, of)
            key = None if subject.is_anonymous else key
            if subject.is_anonymous:
                work = "transcription"
            job = Job(uuid.uuid4().hex, subject, key)
            kind = "anonymous" if subject.is_anonymous else "account"
            expected = self.books[subject].admit(job.name, work, key)
            reply = self._job("admit", job, LEASE_S * 1000, work, LIMITS, kind, times=times)
            assert reply.items() >= expected.items() or (times > 1 and reply["outcome"] == "admitted")
            is_begun = expected["outcome"] == "admitted" or (times > 1 and expected["outcome"] == "replay")
            return job if is_begun else multiple()

        @rule(job=open_jobs, units=st.integers(1, 7), fingerprint=st.sampled_from(["one", "one", "two"]), times=TIMES)
        def reserve(self, job: Job, units: int, fingerprint: str, times: int) -> None:
            expected = self.books[job.subject].reserve(job.name, units, job.key, fingerprint)
            reply = self._job("reserve", job, units, FREE_MINUTES, fingerprint, times=times)
            assert reply.items() >= expected.items()

        @rule(job=open_jobs)
        def renew(self, job: Job) -> None:
            self.books[job.subject].renew(job.name)
            reply = self._job("renew", job, LEASE_S * 1000)
            assert reply["running"] == (job.name in self.books[job.subject].running)

        @rule(
            target=ended_jobs,
            job=consumes(open_jobs),
            units=st.integers(0, 7),
            answer=st.sampled_from([None, None, b"answer", b""]),
            times=TIMES,
        )
        def settle(self, job: Job, units: int, answer: bytes | None, times: int) -> Any:
            arguments = self._settlement(job, units, "free", answer)
            self._job("settle", job, *arguments, times=times)
            return "settle", job, arguments

        @rule(job=open_jobs, units=st.integers(1, 7), times=TIMES)
        def settle_and_go_on(self, job: Job, units: int, times: int) -> None:
            self._job("settle", job, *self._settlement(job, units, "keep", None), times=times)

        @rule(target=ended_jobs, job=consumes(open_jobs), times=TIMES)
        def release(self, job: Job, times: int) -> Any:
            self.books[job.subject].release(job.name, job.key)
            self._job("release", job, times=times)
            return "release", job, ()

        @rule(ended=ended_jobs)
        def repeat_an_end(self, ended: tuple[str, Job, tuple[Any, ...]]) -> None:
            """Its reply was lost, and the edge has tried again only now."""
            script, job, arguments = ended
            self._job(script, job, *arguments)

        @rule(seconds=JUMPS_S)
        def wait(self, seconds: int) -> None:
            self._tick(seconds)

        @rule()
        def restart_the_store(self) -> None:
            self.clock.uptime_s = 0
            self._tick(0)

        @invariant()
        def the_books_are_right(self) -> None:
            if not hasattr(self, "books"):
                return
            run.wait(self._check())

        async def _check(self) -> None:
            for subject in (self.paid, self.free):
                state = await run.store.run("show", subject)
                assert state.items() >= self.books[subject].show().items()
                assert state["granted"] == state["balance"] + state["held"] + state["spent"]
                assert state["balance"] >= 0
                sums: Counter[str] = Counter()
                settled: Counter[str] = Counter()
                for _, entry in await run.redis.xrange(subject.key("ledger")):
                    texts = {name.decode(): value.decode() for name, value in entry.items()}
                    settled[texts.pop("job")] += texts.pop("kind") == "settle"
                    texts.pop("at")
                    sums.update({name: int(value) for name, value in texts.items()})
                assert {name: sums[name] for name in ("granted", "balance", "held", "spent", "written_off")} == {
                    name: state[name] for name in ("granted", "balance", "held", "spent", "written_off")
                }
                assert max(settled.values(), default=0) <= 1

        def _settlement(self, job: Job, units: int, slot: str, answer: bytes | None) -> tuple[Any, ...]:
            """Note a settlement in the books; return the script's arguments for it."""
            remembers = job.key is not None and answer is not None
            known = self.books[job.subject].keys.get(job.key or "")
            fingerprint = (known and known.fingerprint) or "one"
            self.books[job.subject].settle(
                job.name, units, slot == "keep", job.key, fingerprint, answer if remembers else None
            )
            return (units, slot, *((fingerprint, "text/plain", answer) if remembers else ()))

        def _job(self, script: str, job: Job, *arguments: Any, times: int = 1) -> Any:
            return self._script(
                script,
                job.subject,
                job.name,
                *arguments,
                operation=job.name,
                idempotency_key=job.key,
                times=times,
            )

        def _script(
            self, script: str, subject: Subject, *arguments: Any, times: int = 1, **keys: Any
        ) -> dict[str, Any]:
            for _ in range(times):
                reply = run.wait(run.store.run(script, subject, *arguments, **keys))
            return reply

        def _tick(self, seconds: int) -> None:
            self.clock.now_s += seconds
            self.clock.uptime_s += seconds
            times = {"test:now_s": self.clock.now_s, "test:uptime_s": self.clock.uptime_s}
            run.wait(run.redis.mset(times))

    return Machine


def test_the_books_are_right_after_every_step(run: Run) -> None:
    run_state_machine_as_test(
        machine(run),
        settings=settings(
            max_examples=SEQUENCES,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        ),
    )
