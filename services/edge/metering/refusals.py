"""What the scripts say when they refuse, as errors that a caller can act on. Pure."""

from typing import Any

from services.common.errors import Reason, SttError
from services.edge.metering.tiers import Limits

_BUSY_RETRY_S = 5
_RUNNING = "A request with this Idempotency-Key is running; ask again when it is done."
_OTHER_REQUEST = "This Idempotency-Key was used for another request: its file or its parameters were different."
_ANSWER_TOO_LARGE = "The request with this Idempotency-Key was answered, but its answer was too large to be kept."


class LeaseLostError(SttError):
    """The job was given up, because its edge could not reach the store for longer than its lease."""

    def __init__(self) -> None:
        super().__init__(Reason.OVERLOADED, "The request was held up for too long; try again.", retry_after_s=1)


def refusal(reply: dict[str, Any], limits: Limits) -> SttError:
    """Return the error for what a script answered; `limits` are those of the caller's tier."""
    retry_after_s = reply.get("retry_after_s")
    match reply["outcome"]:
        case "unknown_account":
            return SttError(Reason.UNAUTHENTICATED, "The key's account does not exist.")
        case "no_credits":
            return SttError(Reason.NO_CREDITS, "No credits remaining. Upgrade your plan.")
        case "too_few_credits":
            needed = f"{reply['needed']} credit{'s' * (reply['needed'] != 1)}"
            return SttError(Reason.NO_CREDITS, f"This audio needs {needed}; {reply['remaining']} remain.")
        case "month_used":
            message = f"The {limits.minutes_per_month} free minutes of this month are used up. Upgrade your plan."
            return SttError(Reason.QUOTA_EXCEEDED, message, retry_after_s=retry_after_s)
        case "too_few_minutes":
            message = f"This audio needs {reply['needed']} minutes; {reply['remaining']} remain this month."
            return SttError(Reason.QUOTA_EXCEEDED, message, retry_after_s=retry_after_s)
        case "day_used":
            message = f"The {limits.transcriptions_per_day} transcriptions a day without a key are used up. Use a key."
            return SttError(Reason.QUOTA_EXCEEDED, message, retry_after_s=retry_after_s)
        case "busy":
            message = f"As many requests are running as may at a time: {limits.concurrent}."
            return SttError(Reason.TOO_MANY_REQUESTS, message, retry_after_s=_BUSY_RETRY_S)
        case "running":
            return SttError(Reason.IDEMPOTENCY_CONFLICT, _RUNNING, retry_after_s=retry_after_s)
        case "other_request":
            return SttError(Reason.INVALID_REQUEST, _OTHER_REQUEST)
        case "answer_too_large":
            return SttError(Reason.IDEMPOTENCY_CONFLICT, _ANSWER_TOO_LARGE)
        case "expired":
            return LeaseLostError()
    raise AssertionError(f"no script says {reply['outcome']!r}")
