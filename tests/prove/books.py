"""What the books of one subject should say: the contract as a model, computed from what happened and never adjusted.

Nothing here is stored that can be derived: a balance is what was granted less what was spent and is held, a month's
minutes are those of the charges that fell into it.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

LEASE_S, RESTART_S = 30, 30
CONCURRENT = {"anonymous": 1, "free": 2, "paid": 3}
FREE_MINUTES, DAILY = 8, 3


@dataclass
class Clock:
    """The server's: Unix time and uptime, in seconds."""

    now_s: int = 1_795_500_000
    uptime_s: int = 10_000

    @property
    def month(self) -> tuple[int, int]:
        now = datetime.fromtimestamp(self.now_s, UTC)
        return now.year, now.month

    @property
    def day(self) -> str:
        return datetime.fromtimestamp(self.now_s, UTC).date().isoformat()

    def seconds_to(self, turn: str) -> int:
        """Return the seconds to the next day or month."""
        now = datetime.fromtimestamp(self.now_s, UTC)
        if turn == "day":
            return 86_400 - self.now_s % 86_400
        year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
        return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) - self.now_s


@dataclass
class Running:
    """A job that has a slot."""

    tier: str
    expires_s: int
    hold: int = 0
    counts_in: Any = None
    """The day (anonymous) or the month it was reserved in."""


@dataclass
class Charge:
    """A job that was settled: what it cost, in which month and day, and what of it could not be had."""

    tier: str
    units: int
    counts_in: Any
    written_off: int = 0


@dataclass
class Remembered:
    """An Idempotency-Key."""

    job: str
    fingerprint: str | None = None
    charged: int | None = None
    has_answer: bool = False
    is_too_large: bool = False


@dataclass
class Books:
    """One subject's."""

    clock: Clock
    tier: str
    granted: int = 0
    running: dict[str, Running] = field(default_factory=dict)
    charges: dict[str, Charge] = field(default_factory=dict)
    keys: dict[str, Remembered] = field(default_factory=dict)

    @property
    def held(self) -> int:
        return sum(job.hold for job in self.running.values() if job.tier == "paid")

    @property
    def spent(self) -> int:
        return sum(charge.units - charge.written_off for charge in self.charges.values() if charge.tier == "paid")

    @property
    def written_off(self) -> int:
        return sum(charge.written_off for charge in self.charges.values())

    @property
    def balance(self) -> int:
        return self.granted - self.spent - self.held

    @property
    def minutes_used(self) -> int:
        charged = sum(c.units for c in self.charges.values() if c.counts_in == self.clock.month)
        return charged + sum(job.hold for job in self.running.values() if job.tier == "free")

    @property
    def count_used(self) -> int:
        today = self.clock.day
        done = sum(c.units > 0 for c in self.charges.values() if c.tier == "anonymous" and c.counts_in == today)
        return done + sum(job.hold for job in self.running.values() if job.counts_in == today)

    def show(self) -> dict[str, Any]:
        """Return what the account's state should be."""
        self.reap()
        return {
            "tier": self.tier,
            "granted": self.granted,
            "balance": self.balance,
            "held": self.held,
            "spent": self.spent,
            "written_off": self.written_off,
            "minutes": self.minutes_used,
            "running": len(self.running),
        }

    def reap(self) -> None:
        """Give up the jobs whose edge is dead."""
        if self.clock.uptime_s >= RESTART_S:
            alive = {name: job for name, job in self.running.items() if job.expires_s > self.clock.now_s}
            self.running = alive

    def admit(self, job: str, work: str, key: str | None) -> dict[str, Any]:
        """Return what a job is told that wants to begin."""
        self.reap()
        if job in self.running:
            return {"outcome": "admitted"}
        known = self.keys.get(key) if key else None
        outcome = "admitted"
        if known and known.has_answer:
            outcome = "replay"
        elif known and known.is_too_large:
            return {"outcome": "answer_too_large"}
        elif known and known.job in self.running:
            return {"outcome": "running"}
        costs = work == "transcription" and not (known and known.charged is not None)
        if costs and self.tier == "paid" and self.balance < 1:
            return {"outcome": "no_credits"}
        if costs and self.tier == "free" and self.minutes_used >= FREE_MINUTES:
            return {"outcome": "month_used", "retry_after_s": self.clock.seconds_to("month")}
        if costs and self.tier == "anonymous" and self.count_used >= DAILY:
            return {"outcome": "day_used", "retry_after_s": self.clock.seconds_to("day")}
        if len(self.running) >= CONCURRENT[self.tier]:
            return {"outcome": "busy"}
        counted = costs and self.tier == "anonymous"
        self.running[job] = Running(
            self.tier, self.clock.now_s + LEASE_S, int(counted), self.clock.day if counted else None
        )
        if key and outcome == "admitted":
            self.keys.setdefault(key, Remembered(job)).job = job
        return {"outcome": outcome}

    def reserve(self, job: str, units: int, key: str | None, fingerprint: str) -> dict[str, Any]:
        """Return what a job is told whose cost is known."""
        self.reap()
        running = self.running.get(job)
        if running is None:
            return {"outcome": "expired"}
        known = self.keys.get(key) if key else None
        if known:
            if known.fingerprint not in (None, fingerprint):
                return {"outcome": "other_request"}
            known.fingerprint = fingerprint
        due = max(0, units - (known.charged or 0 if known else 0))
        more = due - running.hold
        if running.tier == "paid" and more > self.balance:
            return {"outcome": "too_few_credits", "needed": due, "remaining": self.balance + running.hold}
        if running.tier == "free" and more > 0 and self.minutes_used + more > FREE_MINUTES:
            left = max(0, FREE_MINUTES - self.minutes_used + running.hold)
            return {"outcome": "too_few_minutes", "needed": due, "remaining": left}
        if running.tier != "anonymous" and more > 0:
            running.hold, running.counts_in = due, self.clock.month
        return {"outcome": "reserved", "charged": due if running.tier == "paid" else 0}

    def renew(self, job: str) -> None:
        """Keep a job's lease alive."""
        if job in self.running:
            self.running[job].expires_s = self.clock.now_s + LEASE_S
        self.reap()

    def settle(
        self, job: str, units: int, goes_on: bool, key: str | None, fingerprint: str, answer: bytes | None
    ) -> None:
        """Charge a job that was answered."""
        known = self.keys.get(key) if key else None
        running = self.running.get(job)
        if job not in self.charges:
            tier = running.tier if running else self.tier
            due = max(0, units - (known.charged or 0 if known else 0))
            now = self.clock.day if tier == "anonymous" else self.clock.month
            charge = Charge(tier, due, (running and running.counts_in) or now)
            if running:
                running.hold = 0
            if tier == "paid":
                charge.written_off = max(0, due - self.balance)
            self.charges[job] = charge
            if key:
                known = self.keys.setdefault(key, Remembered(""))
                known.charged = (known.charged or 0) + due
        if not goes_on:
            self.running.pop(job, None)
        if known and answer is not None:
            known.fingerprint = fingerprint
            known.is_too_large = known.is_too_large or not answer
            known.has_answer = known.has_answer or bool(answer)

    def release(self, job: str, key: str | None) -> None:
        """End a job that costs nothing more."""
        self.running.pop(job, None)
        if key and key in self.keys and self.keys[key].job == job and self.keys[key].charged is None:
            del self.keys[key]
