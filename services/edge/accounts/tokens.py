"""Keys as JWTs: who issued one, and whose it is. That it still opens an account is in `authentication`.

The issuer is read from the key itself and believed once its signature is: by that issuer's own keys, with that issuer's
own algorithms, whatever the key's header says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jwt

from services.common.errors import Reason, SttError

LOCAL_ISSUER = LOCAL_AUDIENCE = "stt-service"
MAX_KEY_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class Claims:
    """What a genuine key says: whose it is, and which one; a foreign issuer need not number his."""

    account: str
    key_id: str | None
    is_local: bool


class Issuer(Protocol):
    """One who may issue keys."""

    name: str
    audience: str
    algorithms: Sequence[str]
    required: Sequence[str]
    is_local: bool

    async def public_key(self, kid: str) -> Any:
        """Return his public key of that id, None where he has none; SttError where that cannot be known now."""


def refused(message: str) -> SttError:
    """Make the error of a key that opens nothing."""
    return SttError(Reason.UNAUTHENTICATED, message)


async def verify(key: str, issuers: Mapping[str, Issuer]) -> Claims:
    """Return what a key says, if one of the issuers (by name) has signed it; SttError where not."""
    if len(key) > MAX_KEY_CHARACTERS:
        raise refused("The key is too long to be one.")
    if not key.isascii():  # PyJWT takes no lone surrogates, which is what other bytes of a header come as
        raise refused("The key is malformed.")
    try:
        header = jwt.get_unverified_header(key)
        name = jwt.decode(key, options={"verify_signature": False}).get("iss")
    except jwt.PyJWTError:
        raise refused("The key is malformed.") from None
    issuer = issuers.get(name) if isinstance(name, str) else None
    kid = header.get("kid")
    if issuer is None or not isinstance(kid, str):
        raise refused("The key was issued by somebody unknown here.")
    public_key = await issuer.public_key(kid)
    if public_key is None:
        raise refused("The key is signed by somebody unknown here.")
    try:
        claims = jwt.decode(
            key,
            public_key,
            algorithms=list(issuer.algorithms),
            audience=issuer.audience,
            issuer=issuer.name,
            # Whose clock is a little ahead issues keys all the same.
            options={"require": ["iss", "aud", "sub", *issuer.required], "verify_iat": False},
        )
    except jwt.ExpiredSignatureError:
        raise refused("The key has expired.") from None
    except (jwt.PyJWTError, TypeError, ValueError):  # the latter where the algorithm does not fit the public key
        raise refused("The key is not valid.") from None
    account, key_id = claims["sub"], claims.get("jti")
    if key_id and not key_id.isprintable():  # nobody could name it to revoke it
        raise refused("The key is not valid.")
    return Claims(account, key_id, issuer.is_local)
