"""Who may do what he asks for, before a body is read: the caller by his key or his address, and a job to run."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from services.common import metrics
from services.common.errors import Reason, SttError
from services.edge.accounts.caller import Caller
from services.edge.engine import Kind
from services.edge.errors import invalid
from services.edge.keys import AUTHENTICATOR, METER, SETTINGS
from services.edge.metering.addresses import client_group
from services.edge.metering.meter import Job, Work
from services.edge.metering.store import address
from services.edge.middlewares import IDEMPOTENCY_KEY_HEADER, JOB

_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)
_MALFORMED = "The Authorization header is not of the form: Bearer <key>."


async def identify(request: web.Request, *, token_in_query: bool = False) -> Caller:
    """Return who asks; a key that is there but does not open an account is an error, never an anonymous caller."""
    key = request.query.get("token") if token_in_query else None
    if (header := request.headers.get("Authorization")) is not None:
        match = _BEARER.fullmatch(header)
        if match is None:
            raise SttError(Reason.UNAUTHENTICATED, _MALFORMED)
        key = match[1]
    if key is not None:
        caller = await request.app[AUTHENTICATOR].authenticate(key)
        structlog.contextvars.bind_contextvars(account=caller.subject.name)
        return caller
    forwarded_for = request.headers.getall("X-Forwarded-For", [])
    group = client_group(request.remote, forwarded_for, request.app[SETTINGS].trusted_proxy_hops)
    return Caller(address(group), "anonymous")


async def identify_account(request: web.Request) -> Caller:
    """Return whose account it is; who has no key is told that he needs one."""
    caller = await identify(request)
    if caller.subject.is_anonymous:
        raise SttError(Reason.UNAUTHENTICATED, "This needs a key: send it as Authorization: Bearer <key>.")
    return caller


def idempotency_key(request: web.Request, caller: Caller) -> str | None:
    """Return the Idempotency-Key of a request, None without one."""
    key = request.headers.get(IDEMPOTENCY_KEY_HEADER)
    if key is None:
        return None
    if caller.subject.is_anonymous:
        raise invalid(f"An {IDEMPOTENCY_KEY_HEADER} needs an account: send your key as Authorization: Bearer <key>.")
    if not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        raise invalid(f"The {IDEMPOTENCY_KEY_HEADER} must be 1 to 255 printable ASCII characters without spaces.")
    return key


@asynccontextmanager
async def admitted(request: web.Request, caller: Caller, kind: Kind, key: str | None = None) -> AsyncIterator[Job]:
    """Run the body as a job of the caller's, whose cost stands in the answer's head."""
    work: Work = "summary" if kind == "text" else "transcription"
    async with await request.app[METER].admit(caller, work, key) as job:
        request[JOB] = job
        structlog.contextvars.bind_contextvars(job=job.id)
        with metrics.running(kind):
            yield job
