"""What `python -m services.edge.accounts` does: each command answers with JSON, and with lines for people."""

import argparse
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from services.edge.accounts.audit import audit
from services.edge.accounts.development import development_key
from services.edge.accounts.registry import Key, Registry
from services.edge.accounts.signing import Signer
from services.edge.errors import invalid
from services.edge.metering.store import Store
from services.edge.settings import EdgeSettings

_DAY_S, _MAX_DAYS = 86_400, 36_500


@dataclass(frozen=True)
class Outcome:
    """What a command answers: JSON for scripts, lines for people; and whether all is well."""

    content: Any
    lines: list[str]
    is_ok: bool = True


class Commands:
    """The commands, on one store."""

    def __init__(self, store: Store, settings: EdgeSettings) -> None:
        self._store = store
        self._settings = settings
        self._registry = Registry(store)

    async def create(self, arguments: argparse.Namespace) -> Outcome:
        """Make an account and its first key."""
        signer = Signer.from_folder(self._settings.data_dir)
        credits = whole(arguments.credits)
        name = await self._registry.create(arguments.tier, credits, arguments.name)
        key = await self._registry.new_key(name, signer)
        content = {"account": name, "tier": arguments.tier, "credits": credits, "key": key}
        return Outcome(content, [f"account  {name} ({arguments.tier}, {credits} credits)", *_new_key(key)])

    async def grant(self, arguments: argparse.Namespace) -> Outcome:
        """Add credits."""
        balance = await self._registry.grant(arguments.account, whole(arguments.credits))
        content = {"account": arguments.account, "credits": balance}
        return Outcome(content, [f"{arguments.account} has {balance} credits now."])

    async def set_tier(self, arguments: argparse.Namespace) -> Outcome:
        """Change the tier."""
        await self._registry.set_tier(arguments.account, arguments.tier)
        content = {"account": arguments.account, "tier": arguments.tier}
        return Outcome(content, [f"{arguments.account} is {arguments.tier} now."])

    async def key_new(self, arguments: argparse.Namespace) -> Outcome:
        """Make another key."""
        days = None if arguments.expires_in_days is None else whole(arguments.expires_in_days)
        if days is not None and not 0 < days <= _MAX_DAYS:
            raise invalid(f"A key expires in 1 to {_MAX_DAYS:,} days.")
        signer = Signer.from_folder(self._settings.data_dir)
        key = await self._registry.new_key(arguments.account, signer, None if days is None else days * _DAY_S)
        return Outcome({"account": arguments.account, "key": key}, _new_key(key))

    async def key_list(self, arguments: argparse.Namespace) -> Outcome:
        """List keys by their numbers; they themselves are not kept."""
        keys = await self._registry.keys(arguments.account)
        return Outcome(
            {"account": arguments.account, "keys": [_key(key) for key in keys]}, [_key_line(k) for k in keys]
        )

    async def key_revoke(self, arguments: argparse.Namespace) -> Outcome:
        """Make a key open nothing any more."""
        await self._registry.revoke_key(arguments.account, arguments.key, is_foreign=arguments.foreign)
        content = {"account": arguments.account, "revoked": arguments.key}
        return Outcome(content, [f"The key {arguments.key} opens nothing any more."])

    async def show(self, arguments: argparse.Namespace) -> Outcome:
        """Tell how an account stands."""
        state = await self._registry.show(arguments.account)
        content = {
            "account": arguments.account,
            "tier": state["tier"],
            "credits": state["balance"],
            "held": state["held"],
            "minutes_this_month": state["minutes"],
            "running": state["running"],
        }
        return Outcome(content, [f"{name.replace('_', ' '):<18}  {value}" for name, value in content.items()])

    async def ledger(self, arguments: argparse.Namespace) -> Outcome:
        """List everything that changed an account."""
        entries = [entry async for entry in self._registry.ledger(arguments.account)]
        await self._registry.show(arguments.account)
        content = [{"at": _time(entry.at), "kind": entry.kind, "job": entry.job, **entry.changes} for entry in entries]
        lines = [
            f"{_time(entry.at)}  {entry.kind:<8}  {entry.job}  "
            + "  ".join(f"{name} {change:+d}" for name, change in sorted(entry.changes.items()))
            for entry in entries
        ]
        return Outcome({"account": arguments.account, "entries": content}, lines)

    async def audit(self, arguments: argparse.Namespace) -> Outcome:
        """Compute every account again from its ledger."""
        names = await self._registry.names()
        found = [each for name in names for each in await audit(self._registry, name)]
        content = {"ok": not found, "accounts": len(names), "discrepancies": [asdict(each) for each in found]}
        lines = [f"{each.account}: {each}" for each in found]
        lines.append(f"{len(names)} accounts, {len(found)} discrepancies.")
        return Outcome(content, lines, is_ok=not found)

    async def development_key(self, arguments: argparse.Namespace) -> Outcome:
        """Tell where the key of `make run` is, made where there is none."""
        path = str(await development_key(self._store, self._settings))
        return Outcome({"path": path}, [path])


Command = Callable[[argparse.Namespace], Awaitable[Outcome]]


def whole(text: str) -> int:
    """Return a number as it is typed; SttError where it is not whole."""
    try:
        return int(text)
    except ValueError:
        raise invalid(f"{text!r} is not a whole number.") from None


def _new_key(key: str) -> list[str]:
    return [f"key      {key}", "It is shown this once and cannot be had again."]


def _key(key: Key) -> dict[str, Any]:
    times = {name: getattr(key, name) for name in ("created", "expires", "revoked")}
    return {"key": key.key_id, **{name: None if at is None else _time(at) for name, at in times.items()}}


def _key_line(key: Key) -> str:
    times = {name: value for name, value in _key(key).items() if name != "key" and value is not None}
    return f"{key.key_id}  " + "  ".join(f"{name} {value}" for name, value in times.items())


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds" if at % 1 else "seconds")
