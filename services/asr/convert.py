"""Pure functions between protobuf and the domain's dataclasses."""

import math
import unicodedata
from collections.abc import Sequence

from stt.asr.v1 import asr_pb2
from stt.common.v1 import common_pb2

from services.asr.device import Device
from services.asr.engine import SAMPLE_RATE, Options
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
_AUTO = "auto"
_TASKS = (asr_pb2.TASK_UNSPECIFIED, asr_pb2.TASK_TRANSCRIBE, asr_pb2.TASK_TRANSLATE)
_MOST_PROMPT, _MOST_KEYWORDS, _MOST_KEYWORD = 4_096, 100, 100
_MOST_SPANS = 20
_LATE_S = {asr_pb2.PRIORITY_UNSPECIFIED: 0.0, asr_pb2.PRIORITY_NORMAL: 0.0, asr_pb2.PRIORITY_LOW: 1.0}


def read_offset(config: asr_pb2.TranscribeConfig) -> float:
    """Return the seconds to add to every time that is sent. Raises SttError (INVALID_REQUEST)."""
    if not (math.isfinite(config.start_offset_s) and config.start_offset_s >= 0):
        raise SttError(Reason.INVALID_REQUEST, f"start_offset_s must be 0 or more, not {config.start_offset_s:g}.")
    return config.start_offset_s


def read_options(config: asr_pb2.TranscribeConfig) -> Options:
    """Return what was asked of the recognition. Raises SttError (INVALID_REQUEST)."""
    if len(config.prompt) > _MOST_PROMPT:
        message = f"The prompt has {len(config.prompt)} characters; at most {_MOST_PROMPT} are taken."
        raise SttError(Reason.INVALID_REQUEST, message)
    if len(config.keywords) > _MOST_KEYWORDS:
        message = f"There are {len(config.keywords)} keywords; at most {_MOST_KEYWORDS} are taken."
        raise SttError(Reason.INVALID_REQUEST, message)
    for keyword in config.keywords:
        if not keyword.strip() or len(keyword) > _MOST_KEYWORD or any(map(_is_control, keyword)):
            message = f"A keyword is 1 to {_MOST_KEYWORD} characters, none of them a control character."
            raise SttError(Reason.INVALID_REQUEST, message)
    if config.task not in _TASKS:
        raise SttError(Reason.INVALID_REQUEST, f"There is no task {config.task}.")
    languages = tuple(dict.fromkeys(config.languages))
    language = "" if config.language == _AUTO else config.language
    return Options(
        language=language or (languages[0] if len(languages) == 1 else ""),
        languages=languages,
        translate=config.task == asr_pb2.TASK_TRANSLATE,
        prompt=config.prompt.strip(),
        keywords=tuple(dict.fromkeys(keyword.strip() for keyword in config.keywords)),
    )


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
            language=segment.language,
        )
    )


def write_finished(finished: Finished, choice: Choice) -> asr_pb2.TranscribeResponse:
    """Return the closing event."""
    caveats = choice.caveats
    if not finished.language:
        message = "Nobody was heard to speak, so no language was found out; English was assumed."
        caveats = (*caveats, Caveat("LANGUAGE_ASSUMED", message))
    if finished.missed:
        caveats = (*caveats, Caveat("SPEECH_WITHOUT_WORDS", _missed(finished.missed)))
    return asr_pb2.TranscribeResponse(
        finished=asr_pb2.TranscribeFinished(
            samples=finished.samples,
            duration_s=finished.samples / SAMPLE_RATE,
            language=finished.language or _ASSUMED_LANGUAGE,
            warnings=_warnings(caveats),
            voiced_s=finished.voiced_s,
        )
    )


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc"


def _missed(spans: Sequence[tuple[float, float]]) -> str:
    times = ", ".join(f"{start:.1f}-{end:.1f} s" for start, end in spans[:_MOST_SPANS])
    more = f" and {len(spans) - _MOST_SPANS} more times" if len(spans) > _MOST_SPANS else ""
    return f"Voice was heard at {times}{more}, but no words were found for it."


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
        translates=model.translates,
    )


def _warnings(caveats: Sequence[Caveat]) -> list[common_pb2.Warning]:
    return [common_pb2.Warning(reason=caveat.reason, message=caveat.message) for caveat in caveats]
