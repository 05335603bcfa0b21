"""What every gRPC service counts: its requests, how long work waits for an engine, and what its engines do.

The kinds of work are a service's own: "final", "look" and "file" for recognition, "recording" and "live" for
diarization, "text" for summaries.
"""

from prometheus_client import Counter, Gauge, Histogram

from services.common.metrics import SECONDS, SHORT_SECONDS

REQUESTS = Counter("stt_requests", "RPCs that ended, by how: ok, cancelled, or why not.", ["method", "outcome"])
REQUEST_DURATION = Histogram("stt_request_duration_seconds", "How long RPCs took.", ["method"], buckets=SECONDS)
REQUESTS_LIMIT = Gauge("stt_requests_limit", "Requests that are taken at once; more are refused.", ["kind"])

QUEUE_WAIT = Histogram("stt_queue_wait_seconds", "How long work waited for an engine.", ["kind"], buckets=SHORT_SECONDS)
QUEUE_LENGTH = Gauge("stt_queue_length", "Pieces of work that wait for an engine now.", ["kind"])
BATCH_SIZE = Histogram(
    "stt_batch_size", "How many pieces an engine was given together.", ["kind"], buckets=(1, 2, 4, 8, 16, 32, 64)
)
ENGINE_BUSY = Counter("stt_engine_busy_seconds", "Seconds that workers spent computing, all together.", ["model"])
ENGINE_WORKERS = Gauge("stt_engine_workers", "Workers that can compute at once.", ["device"])
MODEL_LOADED = Gauge(
    "stt_model_loaded", "Whether a model that is wanted is loaded (1) or not (0).", ["model", "device"]
)
