"""Pure functions between protobuf and the domain's dataclasses."""

import math
from collections.abc import Sequence

from stt.asr.v1 import asr_pb2
from stt.common.v1 import common_pb2

from services.asr.device import Device
from services.asr.engine import SAMPLE_RATE
from services.asr.live import Listening, Partial, SpeechEnded, SpeechStarted
from services.asr.models.catalog import Model, Speed
from services.asr.models.choice import Caveat, Choice
from services.asr.transcriber import Finished, Progress
from services.asr.transcript import Segment, Timing
from services.common.errors import Reason, SttError

_TIMING = {Timing.ALIGNED: asr_pb2.TIMING_ALIGNED, Timing.ESTIMATED: asr_pb2.TIMING_ESTIMATED}
_SPEED = {
    Speed.STANDARD: asr_pb2.SPEED_STANDARD,
    Speed.FAST: asr_pb2.SPEED_FAST,
    Speed.VERY_FAST: asr_pb2.SPEED_VERY_FAST,
}
_DEFAULT_ENDPOINT_MS, _LEAST_ENDPOINT_MS, _MOST_ENDPOINT_MS = 500, 200, 3_000
_ASSUMED_LANGUAGE = "en"
_LATE_S = {asr_pb2.PRIORITY_UNSPECIFIED: 0.0, asr_pb2.PRIORITY_NORMAL: 0.0, asr_pb2.PRIORITY_LOW: 1.0}


def read_offset(config: asr_pb2.TranscribeConfig) -> float:
    """Return the seconds to add to every time that is sent. Raises SttError (INVALID_REQUEST)."""
    if not (math.isfinite(config.start_offset_s) and config.start_offset_s >= 0):
        raise SttError(Reason.INVALID_REQUEST, f"start_offset_s must be 0 or more, not {config.start_offset_s:g}.")
    return config.start_offset_s


def read_listening(live: asr_pb2.LiveConfig) -> Listening:
    """Return how a live session is to be heard. Raises SttError (INVALID_REQUEST)."""
    endpoint_ms = live.endpoint_silence_ms or _DEFAULT_ENDPOINT_MS
    if not _LEAST_ENDPOINT_MS <= endpoint_ms <= _MOST_ENDPOINT_MS:
        raise SttError(
            Reason.INVALID_REQUEST,
            f"endpoint_silence_ms must be from {_LEAST_ENDPOINT_MS} to {_MOST_ENDPOINT_MS}, not {endpoint_ms}.",
        )
    if live.priority not in _LATE_S:
        raise SttError(Reason.INVALID_REQUEST, f"There is no priority {live.priority}.")
    return Listening(live.interim_results, endpoint_ms / 1000, _LATE_S[live.priority])


def write_started(choice: Choice) -> asr_pb2.TranscribeResponse:
    """Return the event that says what answers."""
    started = asr_pb2.TranscribeStarted(model=choice.model, warnings=_warnings(choice.caveats))
    return asr_pb2.TranscribeResponse(started=started)


def write_progress(progress: Progress) -> asr_pb2.TranscribeResponse:
    """Return the event that says how far it is."""
    return asr_pb2.TranscribeResponse(progress=common_pb2.Progress(processed_s=progress.processed_s))


def write_speech_started(started: SpeechStarted, offset_s: float) -> asr_pb2.TranscribeResponse:
    """Return the event that says that somebody began to speak."""
    return asr_pb2.TranscribeResponse(speech_started=asr_pb2.SpeechStarted(at_s=offset_s + started.at_s))


def write_speech_ended(ended: SpeechEnded, offset_s: float) -> asr_pb2.TranscribeResponse:
    """Return the event that says that an endpoint was found."""
    return asr_pb2.TranscribeResponse(speech_ended=asr_pb2.SpeechEnded(at_s=offset_s + ended.at_s))


def write_partial(partial: Partial, offset_s: float) -> asr_pb2.TranscribeResponse:
    """Return the event that carries interim text."""
    return asr_pb2.TranscribeResponse(
        partial=asr_pb2.Partial(
            text=partial.interim.text,
            stable_characters=partial.interim.stable_characters,
            start_s=offset_s + partial.start_s,
        )
    )


def write_segment(segment: Segment, number: int, offset_s: float) -> asr_pb2.TranscribeResponse:
    """Return the event that carries a request's segment of this number."""
    words = [
        asr_pb2.Word(
            text=word.text,
            start_s=offset_s + word.start_s,
            end_s=offset_s + word.end_s,
            confidence=word.confidence,
            attached=word.attached,
        )
        for word in segment.words
    ]
    return asr_pb2.TranscribeResponse(
        segment=asr_pb2.Segment(
            start_s=offset_s + segment.start_s,
            end_s=offset_s + segment.end_s,
            text=segment.text,
            confidence=segment.confidence,
            words=words,
            timing=_TIMING[segment.timing],
            id=number,
        )
    )


def write_finished(finished: Finished, choice: Choice) -> asr_pb2.TranscribeResponse:
    """Return the closing event."""
    caveats = choice.caveats
    if not finished.language:
        message = "Nobody was heard to speak, so no language was found out; English was assumed."
        caveats = (*caveats, Caveat("LANGUAGE_ASSUMED", message))
    return asr_pb2.TranscribeResponse(
        finished=asr_pb2.TranscribeFinished(
            samples=finished.samples,
            duration_s=finished.samples / SAMPLE_RATE,
            language=finished.language or _ASSUMED_LANGUAGE,
            warnings=_warnings(caveats),
        )
    )


def write_device(device: Device) -> asr_pb2.Device:
    """Return what the models run on."""
    return asr_pb2.Device(kind=device.kind, name=device.name, memory_mib=device.memory_mib)


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
