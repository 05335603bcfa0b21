"""What every program counts, and where Prometheus reads it.

The metrics are the process's, as prometheus_client keeps them: a module of them holds what its program counts, and who
counts imports it. Labels have few values, known beforehand: never ids, keys, addresses or text.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics, start_http_server

# When a counter was made says nothing here, and would be a third of all series.
disable_created_metrics()  # type: ignore[no-untyped-call]

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
"""Buckets of how long requests take."""
SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""Buckets of waits and of single steps."""

REQUESTS_RUNNING = Gauge("stt_requests_running", "Requests that are being worked on; live: live sessions.", ["kind"])
AUDIO_SECONDS = Counter("stt_audio_seconds", "Seconds of audio that came in.", ["kind"])
REAL_TIME_FACTOR = Histogram(
    "stt_real_time_factor",
    "Seconds that a recording took, over its seconds of audio.",
    buckets=(0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 10),
)
_BUILD = Gauge("stt_build_info", "Which version runs; always 1.", ["version"])


def serve(host: str, port: int) -> int:
    """Answer Prometheus in a thread at `host:port` from now on; return the port. Raises OSError with a sentence."""
    try:
        server, _ = start_http_server(port, host)
    except OSError as error:
        raise OSError(f"cannot serve metrics on {host}:{port}: {error.strerror}; *_METRICS_PORT chooses one") from error
    _BUILD.labels(version("stt-service")).set(1)
    return int(server.server_port)


@contextmanager
def running(kind: str) -> Iterator[None]:
    """Count the body as a running request of that kind."""
    with REQUESTS_RUNNING.labels(kind).track_inprogress():
        yield
