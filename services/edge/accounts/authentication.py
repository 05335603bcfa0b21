"""Whether a key opens an account now: its signature here, the account and the key's revocation in the store."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Self

from services.common.errors import SttError
from services.edge.accounts.caller import Caller
from services.edge.accounts.jwks import ExternalIssuer
from services.edge.accounts.registry import read_key, subject
from services.edge.accounts.signing import ALGORITHM, SIGNING_KEYS, read_public
from services.edge.accounts.tokens import LOCAL_AUDIENCE, LOCAL_ISSUER, Issuer, refused, verify
from services.edge.metering.store import Store, StoreDownError, reached
from services.edge.metering.tiers import read_tier
from services.edge.settings import EdgeSettings

_KEYS_AGE_S = 5.0
_COOLDOWN_S = 0.1


class LocalIssuer:
    """The accounts command. Its public keys lie in the store, which is asked ten times a second at most.

    A key that is known is good for the time that the store, or that node of it, does not tell of them.
    """

    name = LOCAL_ISSUER
    audience = LOCAL_AUDIENCE
    algorithms: Sequence[str] = (ALGORITHM,)
    required: Sequence[str] = ("jti",)
    is_local = True

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys: dict[str, Any] = {}
        self._read_s = self._failed_s = float("-inf")
        self._reading = asyncio.Lock()
        self._now = asyncio.get_running_loop().time

    async def public_key(self, kid: str) -> Any:
        """Return the public key of that id; None where there is none."""
        asked_s = self._now()
        if kid not in self._keys or asked_s - self._read_s > _KEYS_AGE_S:
            async with self._reading:
                try:
                    if asked_s <= self._failed_s:
                        raise StoreDownError  # found while this one waited: they need not all wait in turn
                    if self._read_s < asked_s:
                        await asyncio.sleep(_COOLDOWN_S - (asked_s - self._read_s))
                        await self._read()
                except StoreDownError:
                    if kid not in self._keys:
                        raise
        return self._keys.get(kid)

    async def _read(self) -> None:
        begun_s = self._now()
        try:
            stored: dict[Any, Any] = await reached(self._store.redis.hgetall(SIGNING_KEYS))
        except StoreDownError:
            self._failed_s, self._read_s = self._now(), begun_s
            raise
        self._keys = {name.decode(): read_public(key) for name, key in stored.items()}
        self._read_s = begun_s


class Authenticator:
    """Tells whose a key is; a context manager around an edge's life."""

    def __init__(self, store: Store, settings: EdgeSettings) -> None:
        self._store = store
        local = LocalIssuer(store)
        self._issuers: dict[str, Issuer] = {local.name: local}
        self._settings = settings
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Begin to follow the keys of the external issuer, if there is one."""
        if self._settings.jwks_url:
            external = await self._exit.enter_async_context(
                ExternalIssuer(
                    self._settings.jwt_issuer,
                    self._settings.jwt_audience,
                    self._settings.jwt_algorithms.split(","),
                    self._settings.jwks_url,
                    self._settings.jwks_cooldown_s,
                )
            )
            self._issuers.setdefault(external.name, external)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End that."""
        await self._exit.aclose()

    async def authenticate(self, key: str) -> Caller:
        """Return whose key it is; SttError (401) where it opens no account now. Nothing of that is remembered."""
        claims = await verify(key, self._issuers)
        try:
            owner = subject(claims.account)
        except SttError:
            raise refused("The key's account does not exist.") from None
        redis = self._store.redis
        tier: Any
        known: Any
        tier, known = await reached(
            asyncio.gather(redis.hget(owner.key("state"), "tier"), redis.hget(owner.key("keys"), claims.key_id or ""))
        )
        if tier is None:
            raise refused("The key's account does not exist.")
        registered = known and read_key(known)
        if registered and registered.revoked is not None:
            raise refused("The key was revoked.")
        if claims.is_local and not registered:
            raise refused("The key is unknown here.")
        return Caller(owner, read_tier(tier.decode()))
