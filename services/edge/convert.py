"""Pure functions between the protos and the edge's dataclasses."""

from collections.abc import Iterable, Sequence

from stt.asr.v1 import asr_pb2
from stt.common.v1 import common_pb2
from stt.diarize.v1 import diarize_pb2
from stt.summarize.v1 import summarize_pb2

from services.edge.engine import Catalog, Device, Diarized, Model, Recognized, Speed, Started, Style, Summary, Update
from services.edge.params import LiveParams, SpeechParams, Task
from services.edge.transcript import Segment, Turn, Word

_SPEEDS: dict[int, Speed] = {
    asr_pb2.SPEED_UNSPECIFIED: "standard",
    asr_pb2.SPEED_STANDARD: "standard",
    asr_pb2.SPEED_FAST: "fast",
    asr_pb2.SPEED_VERY_FAST: "very_fast",
}
_TASKS: dict[Task, asr_pb2.Task.ValueType] = {
    "transcribe": asr_pb2.TASK_TRANSCRIBE,
    "translate": asr_pb2.TASK_TRANSLATE,
}
_STYLES: dict[Style, summarize_pb2.Style.ValueType] = {
    "brief": summarize_pb2.STYLE_BRIEF,
    "detailed": summarize_pb2.STYLE_DETAILED,
    "action_items": summarize_pb2.STYLE_ACTION_ITEMS,
    "bullet_points": summarize_pb2.STYLE_BULLET_POINTS,
    "headline": summarize_pb2.STYLE_HEADLINE,
}


def transcribe_config(params: SpeechParams) -> asr_pb2.TranscribeConfig:
    """Write what recognition is asked for; those of a live session make it one."""
    live = None
    if isinstance(params, LiveParams):
        live = asr_pb2.LiveConfig(interim_results=True, endpoint_silence_ms=params.endpoint_silence_ms)
    return asr_pb2.TranscribeConfig(
        model=params.model,
        language=params.language,
        live=live,
        prompt=params.prompt,
        keywords=params.keywords,
        task=_TASKS[params.task],
        languages=params.languages,
    )


def started(message: asr_pb2.TranscribeStarted) -> Started:
    """Read the first event."""
    return Started(message.model, warnings(message.warnings))


def recognized(model: str, finished: asr_pb2.TranscribeFinished) -> Recognized:
    """Join the model of `started` and the closing message."""
    return Recognized(model, finished.language, finished.duration_s, warnings(finished.warnings), finished.voiced_s)


def segment(message: asr_pb2.Segment) -> Segment:
    """Read one segment."""
    return Segment(
        start_s=message.start_s,
        end_s=message.end_s,
        text=message.text,
        confidence=message.confidence,
        words=tuple(Word(w.text, w.start_s, w.end_s, w.confidence, w.attached) for w in message.words),
        estimated=message.timing == asr_pb2.TIMING_ESTIMATED,
        language=message.language,
    )


def turn(message: diarize_pb2.Turn) -> Turn:
    """Read one turn."""
    return Turn(message.start_s, message.end_s, message.speaker)


def update(message: diarize_pb2.Update) -> Update:
    """Read who spoke lately."""
    return Update(message.since_s, message.until_s, tuple(turn(t) for t in message.turns))


def diarized(turns: Sequence[Turn], finished: diarize_pb2.DiarizeFinished) -> Diarized:
    """Join the turns and the closing message.

    Fewer speakers than asked for are not mentioned where there are turns: how many of them a transcript names is known
    when its words are joined to them.
    """
    told = [warning for warning in finished.warnings if not turns or warning.reason != "FEWER_SPEAKERS"]
    return Diarized(tuple(turns), warnings(told))


def summarize_request(text: str, style: Style) -> summarize_pb2.SummarizeRequest:
    """Write what to summarize."""
    return summarize_pb2.SummarizeRequest(text=text, style=_STYLES[style])


def summary(text: str, finished: summarize_pb2.SummarizeFinished) -> Summary:
    """Join the deltas' text and the closing message."""
    return Summary(text, finished.model, warnings(finished.warnings))


def catalog(response: asr_pb2.ListModelsResponse) -> Catalog:
    """Read the list of models."""
    models = [
        Model(m.id, m.name, len(m.languages), _SPEEDS.get(m.speed, "standard"), m.description, m.available)
        for m in response.models
    ]
    device = response.device
    return Catalog(models, Device(device.kind == "cuda", device.name, device.memory_mib))


def warnings(messages: Iterable[common_pb2.Warning]) -> tuple[str, ...]:
    """Read warnings as sentences."""
    return tuple(message.message for message in messages)
