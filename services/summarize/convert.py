"""Pure functions between the protobuf messages and the domain's types."""

from stt.common.v1 import common_pb2
from stt.summarize.v1 import summarize_pb2

from services.common.errors import Reason, SttError
from services.summarize.engine import Caveat, Delta, Progress, Style

MAX_TEXT_CHARS = 1_000_000

_STYLES = {
    summarize_pb2.STYLE_UNSPECIFIED: Style.BRIEF,
    summarize_pb2.STYLE_BRIEF: Style.BRIEF,
    summarize_pb2.STYLE_DETAILED: Style.DETAILED,
    summarize_pb2.STYLE_ACTION_ITEMS: Style.ACTION_ITEMS,
    summarize_pb2.STYLE_BULLET_POINTS: Style.BULLET_POINTS,
    summarize_pb2.STYLE_HEADLINE: Style.HEADLINE,
}


def read_request(request: summarize_pb2.SummarizeRequest) -> tuple[str, Style]:
    """Return the text and the style; raises SttError (INVALID_REQUEST, TOO_LARGE) for what cannot be summarized."""
    text = request.text
    if len(text) > MAX_TEXT_CHARS:
        raise SttError(
            Reason.TOO_LARGE, f"The text has {len(text):,} characters; at most {MAX_TEXT_CHARS:,} can be summarized."
        )
    if not any(char.isprintable() and not char.isspace() for char in text):
        raise SttError(Reason.INVALID_REQUEST, "The text is empty.")
    style = _STYLES.get(request.style)
    if style is None:
        raise SttError(Reason.INVALID_REQUEST, f"There is no style {request.style}; styles are 0 to {max(_STYLES)}.")
    return text, style


def write_delta(delta: Delta) -> summarize_pb2.SummarizeResponse:
    """Return the event that carries the next piece of a summary."""
    return summarize_pb2.SummarizeResponse(delta=delta.text)


def write_progress(progress: Progress) -> summarize_pb2.SummarizeResponse:
    """Return the event that says how far a long text has been summarized."""
    parts = summarize_pb2.SummarizeProgress(parts_done=progress.parts_done, parts=progress.parts)
    return summarize_pb2.SummarizeResponse(progress=parts)


def write_finished(model: str, caveats: list[Caveat]) -> summarize_pb2.SummarizeResponse:
    """Return the closing event."""
    warnings = [common_pb2.Warning(reason=caveat.reason, message=caveat.message) for caveat in caveats]
    return summarize_pb2.SummarizeResponse(finished=summarize_pb2.SummarizeFinished(model=model, warnings=warnings))
