"""What the edge counts, beside what every program does; no value of a label is a caller's."""

from typing import get_args

from prometheus_client import Counter, Gauge, Histogram

from services.common.errors import Reason
from services.common.metrics import AUDIO_SECONDS, REQUESTS_RUNNING, SECONDS, SHORT_SECONDS
from services.edge.engine import Kind

HTTP_REQUESTS = Counter(
    "stt_http_requests", "Requests that were answered; gone: the caller went first.", ["method", "route", "status"]
)
HTTP_REQUEST_DURATION = Histogram(
    "stt_http_request_duration_seconds",
    "How long answers took; live sessions are left out.",
    ["route"],
    buckets=SECONDS,
)
ERRORS = Counter("stt_errors", "Errors that callers were told, over HTTP, in event streams and live.", ["reason"])
STREAMS = Counter("stt_streams", "Live sessions that ended, by how: ok, gone, or why not well.", ["outcome"])
BACKEND_CALLS = Counter("stt_backend_calls", "RPCs to the services that ended, by how.", ["service", "outcome"])

CREDITS_CHARGED = Counter("stt_credits_charged", "Credits that the store has charged.", ["tier"])
MINUTES_CHARGED = Counter("stt_minutes_charged", "Minutes of audio that the store has charged accounts.", ["tier"])
HOLDS = Gauge("stt_holds", "Jobs that hold credits or minutes now.")
SETTLEMENTS_WAITING = Gauge(
    "stt_settlements_waiting", "Ends of jobs that the store did not take at once, and that are tried again."
)
STORE_DURATION = Histogram(
    "stt_store_duration_seconds", "How long scripts of the account store took.", ["script"], buckets=SHORT_SECONDS
)
STORE_FAILURES = Counter("stt_store_failures", "Commands that the account store did not answer, or refused.")

DECODINGS_RUNNING = Gauge("stt_decodings_running", "Files that are being decoded.")
DECODING_DURATION = Histogram(
    "stt_decoding_duration_seconds", "How long decoding a file took, without its wait.", buckets=SHORT_SECONDS
)
SPOOL_BYTES = Gauge("stt_spool_bytes", "Bytes of recordings in flight on disk.")
SPOOL_LIMIT_BYTES = Gauge("stt_spool_limit_bytes", "How many they may be; uploads past it are refused.")

_METHODS = ("GET", "HEAD", "OPTIONS", "POST")


def known_method(method: str) -> str:
    """Return the method of a request, "other" where it is none that the edge answers."""
    return method if method in _METHODS else "other"


def count_request(method: str, route: str, status: int, duration_s: float) -> None:
    """Count an answer; `status` 0 where the caller went before it, 101 for a live session that is over."""
    HTTP_REQUESTS.labels(known_method(method), route, status or "gone").inc()
    if route != "/v1/stream":
        HTTP_REQUEST_DURATION.labels(route).observe(duration_s)


# What has not happened yet is 0: a series that begins with 1 has no rate.
for _reason in Reason:
    ERRORS.labels(_reason)
for _kind in get_args(Kind):
    REQUESTS_RUNNING.labels(_kind)
for _tier in ("free", "paid"):
    CREDITS_CHARGED.labels(_tier)
    MINUTES_CHARGED.labels(_tier)
for _kind in ("recording", "live"):
    AUDIO_SECONDS.labels(_kind)
