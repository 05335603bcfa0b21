"""What recognition alone counts: how long live sessions wait for words, and what becomes of those shown early."""

from prometheus_client import Counter, Histogram

_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2, 3, 5, 10, 20)

PARTIAL_LATENCY = Histogram(
    "stt_partial_latency_seconds",
    "From the arrival of the last audio that an interim text covers to its being sent.",
    buckets=_SECONDS,
)
FINAL_LATENCY = Histogram(
    "stt_final_latency_seconds",
    "From the arrival of the audio that ended a stretch of speech to its segments being sent.",
    buckets=_SECONDS,
)
INTERIM_WORDS = Counter("stt_interim_words", "Words shown before their segment was final, each once.")
INTERIM_WORDS_TAKEN_BACK = Counter(
    "stt_interim_words_taken_back", "Words shown that the next interim text, or the segment, no longer had."
)
FINAL_WORDS = Counter("stt_final_words", "Words of the segments of live sessions that are shown interim text.")
