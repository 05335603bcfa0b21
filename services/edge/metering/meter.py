"""Jobs: what is metered runs as one, and whatever becomes of it, it is charged once or costs nothing.

An edge that dies takes its jobs along: their leases run out, and what they held goes back. While it lives it renews
them, and retries a settlement that the store has not acknowledged; nobody's answer waits for that.
"""

import asyncio
import json
import uuid
from typing import Any, Literal, Self

import structlog

from services.common.audio import SAMPLE_RATE
from services.edge.accounts.caller import Caller
from services.edge.metering.answers import StoredAnswer, read, record
from services.edge.metering.refusals import LeaseLostError, refusal
from services.edge.metering.store import Store, StoreDownError
from services.edge.metering.tiers import Limits, Tier, Tiers, read_tier
from services.edge.metrics import CREDITS_CHARGED, HOLDS, MINUTES_CHARGED, SETTLEMENTS_WAITING
from services.edge.tasks import end

Work = Literal["transcription", "summary"]

UNIT_SAMPLES = 60 * SAMPLE_RATE
_RENEWALS_PER_LEASE = 3
_RENEWED_AT_ONCE = 16
_BUSY_PAUSE_S = 0.1
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_GIVE_UP_S = 23 * 3600
"""A settlement's operation is remembered by the store for a day: one that is older could be charged twice."""
_log = structlog.get_logger(__name__)


def units(samples: int) -> int:
    """Return what audio costs: its minutes, rounded up."""
    return -(-samples // UNIT_SAMPLES)


class Meter:
    """Admits jobs, renews their leases and sees their ends through; a context manager around an edge's life."""

    def __init__(self, store: Store, tiers: Tiers, lease_s: float, grace_s: float) -> None:
        self._store = store
        self._tiers = tiers
        self._limits = json.dumps({tier: limits.to_json() for tier, limits in tiers.items()})
        self._lease_s = lease_s
        self._grace_s = grace_s
        self._running: set[Job] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._ends: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        """Begin to renew leases."""
        self._renewing = asyncio.create_task(self._renew())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give what is not settled yet the grace; jobs whose handlers were cancelled are about to end."""
        try:
            async with asyncio.timeout(self._grace_s):
                await self._idle.wait()
                await asyncio.gather(*self._ends)
        except TimeoutError:
            _log.error("settlements lost", count=len(self._running))
        for task in (*self._ends, self._renewing):
            await end(task)

    async def admit(self, caller: Caller, work: Work, idempotency_key: str | None = None) -> "Job":
        """Return a job that may begin; SttError where it may not: out of credits, over a limit, or the store is down.

        The caller ends it: `async with`.
        """
        job = Job(self._store, self, caller, idempotency_key)
        try:
            reply = await self._admit(job, work)
            if reply["outcome"] == "busy":
                # Who has just read an answer may ask again before the store knows that the job is over.
                await asyncio.sleep(_BUSY_PAUSE_S)
                reply = await self._admit(job, work)
        except asyncio.CancelledError:
            self.see_through(job, "release", job.id)
            raise
        if reply["outcome"] not in ("admitted", "replay"):
            raise refusal(reply, self._tiers[caller.tier])
        job.begin(reply, self._tiers)
        self._running.add(job)
        self._idle.clear()
        return job

    def limits(self, tier: Tier) -> Limits:
        """Return the limits of a tier."""
        return self._tiers[tier]

    async def usage(self, caller: Caller) -> dict[str, Any]:
        """Return how an account stands, as GET /v1/usage tells it."""
        state = await self._store.run("show", caller.subject)
        if state["outcome"] != "shown":
            raise refusal(state, self._tiers[caller.tier])
        return {
            "tier": state["tier"],
            "minutes_this_month": state["minutes"],
            "credits": state["balance"],
            "held": state["held"],
            "running": state["running"],
            "limits": self._tiers[read_tier(state["tier"])].to_json(),
        }

    def see_through(
        self, job: "Job", script: str, *arguments: str | int | bytes, is_last: bool = True
    ) -> "asyncio.Task[dict[str, Any] | None]":
        """Run a script until the store has acknowledged it, whatever becomes of the caller."""
        task = asyncio.create_task(self._until_done(job, script, arguments, is_last))
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)
        return task

    async def _until_done(
        self, job: "Job", script: str, arguments: tuple[str | int | bytes, ...], is_last: bool
    ) -> dict[str, Any] | None:
        now = asyncio.get_running_loop().time
        # What nobody releases is given back when its lease runs out.
        give_up_s = now() + (self._lease_s if script == "release" else _GIVE_UP_S)
        pause_s = _FIRST_PAUSE_S
        is_waiting = False
        try:
            while True:
                try:
                    reply = await job.run(script, *arguments)
                    if script == "settle":
                        job.count_charge(reply)
                    return reply
                except StoreDownError:
                    if now() > give_up_s:
                        _log.error("settlement lost", job=job.id, script=script)
                        return None
                if not is_waiting:
                    is_waiting = True
                    SETTLEMENTS_WAITING.inc()
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        finally:
            SETTLEMENTS_WAITING.dec(is_waiting)
            job.let_go()
            if is_last:
                self._running.discard(job)
                if not self._running:
                    self._idle.set()

    async def _admit(self, job: "Job", work: Work) -> dict[str, Any]:
        kind = "anonymous" if job.caller.subject.is_anonymous else "account"
        return await job.run("admit", job.id, round(self._lease_s * 1000), work, self._limits, kind)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / _RENEWALS_PER_LEASE)
            jobs = list(self._running)
            missed = 0
            for start in range(0, len(jobs), _RENEWED_AT_ONCE):
                batch = jobs[start : start + _RENEWED_AT_ONCE]
                # One node of a cluster may be away; the others' leases are renewed all the same.
                missed += (await asyncio.gather(*(self._is_renewed(job) for job in batch))).count(False)
            if missed:
                _log.warning("leases not renewed: the account store cannot be reached", jobs=missed)

    async def _is_renewed(self, job: "Job") -> bool:
        try:
            await job.run("renew", job.id, round(self._lease_s * 1000))
        except StoreDownError:
            return False
        return True


class Job:
    """One piece of metered work. What it has not settled when it is left costs nothing."""

    def __init__(self, store: Store, meter: Meter, caller: Caller, idempotency_key: str | None) -> None:
        self.id = uuid.uuid4().hex
        self.caller = caller
        self.idempotency_key = idempotency_key
        self._store = store
        self._meter = meter
        self.fingerprint = ""
        """What exactly is asked for: an Idempotency-Key stands for that alone."""
        self._is_settled = False
        self._is_waived = False
        self._is_over = False
        self._is_holding = False
        self._is_charge_counted = False

    def begin(self, reply: dict[str, Any], tiers: Tiers) -> None:
        """Take over what the store said on admission."""
        self.tier: Tier = read_tier(reply["tier"])
        self.limits: Limits = tiers[self.tier]
        self.is_replay: bool = reply["outcome"] == "replay"
        """Whether its Idempotency-Key has an answer already."""
        self.charged = 0
        """The credits that it costs, as far as that is known."""
        self.remaining: int = reply["balance"]
        """The account's credits after that, without those that other jobs hold."""

    async def __aenter__(self) -> Self:
        """Run the job."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let its slot go, and what it holds where it was not settled."""
        if not self._is_over:
            self._is_over = True
            self._meter.see_through(self, "release", self.id)

    async def reserve(self, units: int) -> None:
        """Hold what the job will cost, in units in all so far; SttError where that is not there."""
        minutes = self.limits.minutes_per_month or 0
        reply = await self.run("reserve", self.id, units, minutes, self.fingerprint)
        if reply["outcome"] != "reserved":
            raise refusal(reply, self.limits)
        self.charged, self.remaining = reply["charged"], reply["balance"]
        if not self._is_holding and self.tier != "anonymous":
            self._is_holding = True
            HOLDS.inc()

    def waive(self) -> None:
        """Charge nothing when it is settled, and give back what it holds."""
        self._is_waived = True
        self.charged, self.remaining = 0, self.remaining + self.charged

    def settle(self, units: int, *, goes_on: bool = False) -> "asyncio.Task[dict[str, Any] | None] | None":
        """Charge the job, once; `goes_on` keeps its slot. Nobody waits for the store."""
        if self._is_settled:
            return None
        self._is_settled, self._is_over = True, not goes_on
        slot = "keep" if goes_on else "free"
        return self._meter.see_through(self, "settle", self.id, self._due(units), slot, is_last=not goes_on)

    async def settle_with(self, units: int, content_type: str, body: bytes) -> None:
        """Charge the job and remember its answer for its Idempotency-Key; a store that is down is not waited for."""
        data = await asyncio.to_thread(record, body)
        self._is_settled = self._is_over = True
        arguments = (self.id, self._due(units), "free", self.fingerprint, content_type, data)
        task = self._meter.see_through(self, "settle", *arguments)
        await asyncio.wait({task}, timeout=_LONGEST_PAUSE_S)

    def count_charge(self, reply: dict[str, Any]) -> None:
        """Count what the store has charged, once: it says so again to a job that is settled again with its answer."""
        if not self._is_charge_counted and self.tier != "anonymous":
            self._is_charge_counted = True
            CREDITS_CHARGED.labels(self.tier).inc(reply["charged"])
            MINUTES_CHARGED.labels(self.tier).inc(reply["due"])

    def let_go(self) -> None:
        """Count it no more among those that hold something."""
        if self._is_holding:
            self._is_holding = False
            HOLDS.dec()

    async def recall(self) -> StoredAnswer:
        """Return the first answer to its Idempotency-Key; SttError where that was asked something else."""
        assert self.idempotency_key is not None
        answer = await read(self._store, self.caller.subject, self.idempotency_key)
        if answer is None:
            raise LeaseLostError  # its day ended in between
        if answer.fingerprint != self.fingerprint:
            raise refusal({"outcome": "other_request"}, self.limits)
        return answer

    def _due(self, units: int) -> int:
        return 0 if self._is_waived else units

    async def run(self, script: str, *arguments: str | int | bytes) -> dict[str, Any]:
        """Run a script on the job."""
        return await self._store.run(
            script, self.caller.subject, *arguments, operation=self.id, idempotency_key=self.idempotency_key
        )
