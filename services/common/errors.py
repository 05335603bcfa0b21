"""The one root of every error a caller may see, and its reasons; how they look on a wire does not belong here."""

from enum import StrEnum, auto


class Reason(StrEnum):
    """Why a request failed; the values stand in answers and logs, so they never change."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[str]) -> str:
        return name

    INVALID_REQUEST = auto()
    UNKNOWN_MODEL = auto()
    MODEL_UNAVAILABLE = auto()
    UNSUPPORTED_LANGUAGE = auto()
    LANGUAGE_UNAVAILABLE = auto()
    OVERLOADED = auto()
    SHUTTING_DOWN = auto()
    IDLE_TIMEOUT = auto()
    TOO_LARGE = auto()
    INTERNAL = auto()
    # Below: seen by callers of the edge, or made from a bare gRPC status; no service sends them.
    UNSUPPORTED_MEDIA = auto()
    NO_AUDIO = auto()
    SERVICE_UNAVAILABLE = auto()
    DEADLINE_EXCEEDED = auto()
    UNAUTHENTICATED = auto()
    NO_CREDITS = auto()
    QUOTA_EXCEEDED = auto()
    TOO_MANY_REQUESTS = auto()
    IDEMPOTENCY_CONFLICT = auto()


class SttError(Exception):
    """An expected failure.

    `message` is one sentence a person can act on and safe to show to anyone; `retry_after_s` is set where trying the
    same again may help.
    """

    def __init__(self, reason: Reason, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.retry_after_s is not None
