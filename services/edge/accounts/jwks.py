"""An external issuer of keys: an identity provider that publishes its public keys as a JSON Web Key Set (RFC 7517).

The set is read now and then in the background, and once more where a key names one that is not in it, but not for every
such key: anybody can make those up. While it cannot be read the last one is good.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Self

import aiohttp
import jwt
import structlog

from services.common.errors import Reason, SttError
from services.edge.tasks import end

_REFRESH_S, _RETRY_S = 300.0, 15.0
_TIMEOUT_S = 5.0
_MAX_BYTES = 1024 * 1024
# The last four are what PyJWT and json make of JSON that is no key set, or nested without end.
_UNREADABLE = (aiohttp.ClientError, TimeoutError, jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError)
_log = structlog.get_logger(__name__)


class ExternalIssuer:
    """An issuer by his name (iss) and the address of his key set; a context manager around an edge's life."""

    required: Sequence[str] = ("exp",)
    is_local = False

    def __init__(self, name: str, audience: str, algorithms: Sequence[str], url: str, cooldown_s: float) -> None:
        self.name = name
        self.audience = audience
        self.algorithms = algorithms
        self._url = url
        self._cooldown_s = cooldown_s
        self._keys: dict[str, Any] = {}
        self._asked_s = float("-inf")
        self._now = asyncio.get_running_loop().time

    async def __aenter__(self) -> Self:
        """Begin to follow the key set."""
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
        self._reading = asyncio.create_task(self._read())
        self._following = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End that."""
        await end(self._following)
        await end(self._reading)
        await self._http.close()

    async def public_key(self, kid: str) -> Any:
        """Return the public key of that id, None where there is none; SttError where no key set was ever read."""
        if kid not in self._keys and not (self._reading.done() and self._now() - self._asked_s <= self._cooldown_s):
            await self._read_once()
        if not self._keys:
            message = "The issuer of this key cannot be reached."
            raise SttError(Reason.SERVICE_UNAVAILABLE, message, retry_after_s=self._cooldown_s)
        return self._keys.get(kid)

    async def _follow(self) -> None:
        while True:
            is_read = await self._read_once()
            await asyncio.sleep(_REFRESH_S if is_read else _RETRY_S)

    async def _read_once(self) -> bool:
        """Read it, or wait for the reading that runs; who hangs up meanwhile does not end it for the others."""
        if self._reading.done():
            self._reading = asyncio.create_task(self._read())
        return await asyncio.shield(self._reading)

    async def _read(self) -> bool:
        self._asked_s = self._now()
        try:
            async with self._http.get(self._url, raise_for_status=True) as answer:
                text = await answer.content.read(_MAX_BYTES)
                while not answer.content.at_eof() and len(text) < _MAX_BYTES:
                    text += await answer.content.read(_MAX_BYTES - len(text))
            found = jwt.PyJWKSet.from_dict(json.loads(text)).keys
            keys = {key.key_id: key.key for key in found if isinstance(key.key_id, str)}
            if not keys:
                raise ValueError("no key has an id")
        except _UNREADABLE as error:
            _log.warning("the key set of the issuer of keys cannot be read", error=type(error).__name__)
            return False
        self._keys = keys
        return True
