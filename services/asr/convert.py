"""Pure functions from the domain's dataclasses to protobuf."""

from collections.abc import Sequence

from stt.asr.v1 import asr_pb2
from stt.common.v1 import common_pb2

from services.asr.engine import SAMPLE_RATE
from services.asr.models import Caveat, Choice, Model, Speed
from services.asr.transcriber import Finished, Progress
from services.asr.transcript import Segment, Timing

_TIMING = {Timing.ALIGNED: asr_pb2.TIMING_ALIGNED, Timing.ESTIMATED: asr_pb2.TIMING_ESTIMATED}
_SPEED = {
    Speed.STANDARD: asr_pb2.SPEED_STANDARD,
    Speed.FAST: asr_pb2.SPEED_FAST,
    Speed.VERY_FAST: asr_pb2.SPEED_VERY_FAST,
}


def write_started(choice: Choice) -> asr_pb2.TranscribeResponse:
    """Return the event that says what answers."""
    started = asr_pb2.TranscribeStarted(model=choice.model, warnings=_warnings(choice.caveats))
    return asr_pb2.TranscribeResponse(started=started)


def write_progress(progress: Progress) -> asr_pb2.TranscribeResponse:
    """Return the event that says how far it is."""
    return asr_pb2.TranscribeResponse(progress=common_pb2.Progress(processed_s=progress.processed_s))


def write_segment(segment: Segment) -> asr_pb2.TranscribeResponse:
    """Return the event that carries a segment."""
    words = [
        asr_pb2.Word(text=word.text, start_s=word.start_s, end_s=word.end_s, confidence=word.confidence)
        for word in segment.words
    ]
    return asr_pb2.TranscribeResponse(
        segment=asr_pb2.Segment(
            start_s=segment.start_s,
            end_s=segment.end_s,
            text=segment.text,
            confidence=segment.confidence,
            words=words,
            timing=_TIMING[segment.timing],
        )
    )


def write_finished(finished: Finished, choice: Choice) -> asr_pb2.TranscribeResponse:
    """Return the closing event."""
    return asr_pb2.TranscribeResponse(
        finished=asr_pb2.TranscribeFinished(
            samples=finished.samples,
            duration_s=finished.samples / SAMPLE_RATE,
            language=choice.language,
            warnings=_warnings(choice.caveats),
        )
    )


def write_model(model: Model, *, available: bool) -> asr_pb2.Model:
    """Return a model of the catalog."""
    return asr_pb2.Model(
        id=model.id,
        name=model.name,
        languages=model.languages,
        speed=_SPEED[model.speed],
        description=model.description,
        available=available,
    )


def _warnings(caveats: Sequence[Caveat]) -> list[common_pb2.Warning]:
    return [common_pb2.Warning(reason=caveat.reason, message=caveat.message) for caveat in caveats]
