"""What the edge counts, beside what every program does."""

from prometheus_client import Counter

BACKEND_CALLS = Counter("stt_backend_calls", "RPCs to the services that ended, by how.", ["service", "outcome"])
