"""Accounts and their keys as they lie in the store: made, changed, listed. No key itself is ever stored."""

import json
import re
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

from services.common.errors import SttError
from services.edge.accounts.signing import SIGNING_KEYS, Signer
from services.edge.accounts.tokens import LOCAL_AUDIENCE, LOCAL_ISSUER
from services.edge.errors import invalid
from services.edge.metering.store import Store, Subject, account, nodes, reached
from services.edge.metering.tiers import ACCOUNT_TIERS

MAX_GRANT = 1_000_000_000
_NAME = re.compile(r"[A-Za-z0-9][\w.@:|-]{0,127}", re.ASCII)
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key: its number, and when (Unix time, s) it was made, expires and was revoked."""

    key_id: str
    created: int | None = None
    expires: int | None = None
    revoked: int | None = None

    @property
    def is_registered(self) -> bool:
        """Whether it was made here; a foreign issuer's is known only once it is revoked."""
        return self.created is not None


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a ledger: when (Unix time, s), what happened, to which job or grant, and by how much."""

    at: float
    kind: str
    job: str
    changes: dict[str, int]


class Registry:
    """The accounts of a store. Every method raises SttError where the account does not exist or an argument is bad."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, tier: str, credits: int = 0, name: str | None = None) -> str:
        """Make an account and return its name."""
        _check_tier(tier)
        if credits:
            _check_credits(credits)
        name = f"acc_{secrets.token_hex(8)}" if name is None else name
        operation = secrets.token_hex(16)
        reply = await self._store.run("create", subject(name), operation, tier, credits, operation=operation)
        if reply["outcome"] == "exists":
            raise invalid(f"The account {name} exists already.")
        return name

    async def grant(self, name: str, credits: int) -> int:
        """Add credits and return the balance."""
        _check_credits(credits)
        operation = secrets.token_hex(16)
        reply = await self._store.run("grant", subject(name), operation, credits, operation=operation)
        return int(_existing(reply, name)["balance"])

    async def set_tier(self, name: str, tier: str) -> None:
        """Move an account to another tier."""
        _check_tier(tier)
        _existing(await self._store.run("set_tier", subject(name), tier), name)

    async def show(self, name: str) -> dict[str, Any]:
        """Return how an account stands, as `show.lua` tells it."""
        return _existing(await self._store.run("show", subject(name)), name)

    async def new_key(self, name: str, signer: Signer, expires_in_s: int | None = None) -> str:
        """Make a key, tell every edge who signed it, and return it: it cannot be had a second time."""
        await self.show(name)
        now = int(time.time())
        key = Key(secrets.token_hex(8), created=now, expires=None if expires_in_s is None else now + expires_in_s)
        claims = {"iss": LOCAL_ISSUER, "aud": LOCAL_AUDIENCE, "sub": name, "jti": key.key_id, "iat": now}
        if key.expires is not None:
            claims["exp"] = key.expires
        await reached(self._store.redis.hset(SIGNING_KEYS, signer.kid, signer.public_key))
        await self._write(name, key)
        return signer.sign(claims)

    async def keys(self, name: str) -> list[Key]:
        """Return an account's keys, the oldest first."""
        await self.show(name)
        stored: dict[Any, Any] = await reached(self._store.redis.hgetall(subject(name).key("keys")))
        return sorted((read_key(text) for text in stored.values()), key=lambda key: key.created or 0)

    async def revoke_key(self, name: str, key_id: str, *, is_foreign: bool = False) -> None:
        """Make a key open nothing from now on; one that was not made here only with `is_foreign`."""
        known = {key.key_id: key for key in await self.keys(name)}
        if key_id not in known and not is_foreign:
            raise invalid(f"The account {name} has no key {key_id}.")
        key = known.get(key_id, Key(key_id))
        if key.revoked is None:
            await self._write(name, Key(key_id, key.created, key.expires, revoked=int(time.time())))

    async def names(self) -> list[str]:
        """Return the names of all accounts, those included of which nothing but the ledger is left."""
        return sorted(await self._names("state") | await self._names("ledger"))

    async def ledger(self, name: str, until: str = "+") -> AsyncIterator[Entry]:
        """Yield an account's ledger from its beginning, to the entry with the id `until`."""
        after = "-"
        while True:
            page: list[Any] = await reached(self._store.redis.xrange(subject(name).key("ledger"), after, until, _PAGE))  # type: ignore[arg-type]  # a list it is
            for entry_id, fields in page:
                yield _entry(fields)
                after = f"({entry_id.decode()}"
            if len(page) < _PAGE:
                return

    async def _names(self, what: str) -> set[str]:
        before, after = account("*").key(what).split("*")
        found = set()
        for node in await nodes(self._store.redis):
            cursor = 0
            while True:
                page: tuple[int, list[Any]] = await reached(node.scan(cursor, f"{before}*{after}", _PAGE))
                cursor = page[0]
                found |= {key.decode().removeprefix(before).removesuffix(after) for key in page[1]}
                if cursor == 0:
                    break
        return found

    async def _write(self, name: str, key: Key) -> None:
        await reached(self._store.redis.hset(subject(name).key("keys"), key.key_id, json.dumps(asdict(key))))


def subject(name: str) -> Subject:
    """Return the account of that name; SttError where none can be called so."""
    if not _NAME.fullmatch(name):
        raise invalid("An account's name is 1 to 128 letters, digits and any of . @ : | _ -, a letter or digit first.")
    return account(name)


def read_key(text: bytes) -> Key:
    """Return a key as it lies in the store."""
    return Key(**json.loads(text))


def _entry(fields: dict[bytes, bytes]) -> Entry:
    texts = {name.decode(): value.decode() for name, value in fields.items()}
    at_ms, kind, job = texts.pop("at"), texts.pop("kind"), texts.pop("job")
    return Entry(int(at_ms) / 1000, kind, job, {name: int(value) for name, value in texts.items()})


def _existing(reply: dict[str, Any], name: str) -> dict[str, Any]:
    if reply["outcome"] == "unknown_account":
        raise _unknown(name)
    return reply


def _unknown(name: str) -> SttError:
    return invalid(f"There is no account {name}.")


def _check_tier(tier: str) -> None:
    if tier not in ACCOUNT_TIERS:
        raise invalid(f"There is no tier {tier!r}; use one of {', '.join(ACCOUNT_TIERS)}.")


def _check_credits(credits: int) -> None:
    if not 0 < credits <= MAX_GRANT:
        raise invalid(f"Credits are granted from 1 to {MAX_GRANT:,} at a time.")
