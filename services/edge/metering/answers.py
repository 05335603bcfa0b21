"""First answers, kept for a day for who asks again with the same Idempotency-Key."""

import asyncio
import gzip
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.edge.metering.store import Store, Subject, answer_key, reached

_MAX_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer as it was first given, and the fingerprint of the request it was given to."""

    fingerprint: str
    content_type: str
    body: bytes


def fingerprint(parameters: Mapping[str, object], content: str) -> str:
    """Return what tells a request from others: its parameters, and the digest of what it is about."""
    return hashlib.sha256(json.dumps([parameters, content], sort_keys=True).encode()).hexdigest()


def record(body: bytes) -> bytes:
    """Return a body as it is stored; nothing where it is too large for that."""
    data = gzip.compress(body, compresslevel=6, mtime=0)
    return data if len(data) <= _MAX_BYTES else b""


async def read(store: Store, subject: Subject, idempotency_key: str) -> StoredAnswer | None:
    """Return the answer that is kept; None where there is none any more."""
    key = answer_key(subject, idempotency_key)
    record: dict[Any, Any] = await reached(store.redis.hgetall(key))
    if b"body" not in record:
        return None
    body = await asyncio.to_thread(gzip.decompress, record[b"body"])
    return StoredAnswer(record[b"fingerprint"].decode(), record[b"content_type"].decode(), body)
