"""What the summary service alone counts."""

from prometheus_client import Counter, Histogram

from services.common.metrics import SHORT_SECONDS

TOKENS = Counter("stt_tokens", "Tokens that a model read and wrote.", ["direction"])
FIRST_TOKEN = Histogram(
    "stt_first_token_seconds",
    "From a prompt's coming to the first token of its answer, waiting included.",
    buckets=SHORT_SECONDS,
)
