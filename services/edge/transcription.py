"""One recording's way from PCM to a transcript: recognition and diarization side by side, then joined.

How the PCM came to be and how the answer travels do not belong here. Recognition is what was asked for, so its errors
are the caller's; diarization is an extra, and without it the transcript goes out all the same, with a warning.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

import structlog

from services.common import tracing
from services.common.errors import SttError
from services.edge.engine import Diarized, Progress, Recognized, Recording, SpeechBackends
from services.edge.joining import assign_speakers
from services.edge.params import TranscribeParams
from services.edge.repeating import repeated
from services.edge.tasks import end
from services.edge.transcript import Segment, Transcript

Report = Callable[[Progress | Segment], Awaitable[None]]
"""Told of everything that happens on the way; the work waits for it."""

_NOBODY = Diarized((), ())
_NO_VOICES = "No speakers are named: diarization heard no voices."
_log = structlog.get_logger(__name__)


async def transcribe(
    recording: Recording,
    duration_s: float,
    params: TranscribeParams,
    backends: SpeechBackends,
    report: Report,
    may_repeat: Callable[[], bool],
) -> Transcript:
    """Return the transcript; cancelled, or failing with the SttError of recognition, it leaves nothing running.

    The segments that `report` is given have no speakers yet: those are known when the whole recording was heard. They
    come again, and progress falls, where a replica was lost and `may_repeat` says that recognition may begin anew.
    """
    diarization = asyncio.create_task(_diarize(recording, duration_s, params, backends, report))
    try:
        segments, recognized = await repeated(
            lambda: _recognize(recording, duration_s, params, backends, report), may_repeat
        )
        # In silence there is nobody to name, so there is nothing to wait for.
        diarized = await diarization if segments else _NOBODY
    finally:
        await end(diarization)
    with tracing.step("join"):
        joined = await asyncio.to_thread(assign_speakers, segments, diarized.turns)
    transcript = Transcript(
        language=recognized.language,
        duration_s=duration_s,
        model=recognized.model,
        segments=joined,
        warnings=(*recognized.warnings, *diarized.warnings, *params.warnings),
        voiced_s=recognized.voiced_s,
    )
    wanted, found = params.speakers, transcript.speakers
    if found and wanted and found != wanted:
        transcript = replace(
            transcript, warnings=(*transcript.warnings, f"{wanted} speakers were asked for, {found} were found.")
        )
    return transcript


async def _recognize(
    recording: Recording, duration_s: float, params: TranscribeParams, backends: SpeechBackends, report: Report
) -> tuple[list[Segment], Recognized]:
    segments: list[Segment] = []
    async with aclosing(backends.transcribe(recording, duration_s, params)) as events:
        async for event in events:
            match event:
                case Recognized():
                    return segments, event
                case Segment():
                    segments.append(event)
            await report(event)
    raise AssertionError("recognition ends with Recognized or an error")


async def _diarize(
    recording: Recording, duration_s: float, params: TranscribeParams, backends: SpeechBackends, report: Report
) -> Diarized:
    if not params.diarize:
        return _NOBODY
    try:
        diarized = await repeated(lambda: _find_turns(recording, duration_s, params, backends, report))
    except SttError as error:
        _log.warning("diarization failed", reason=str(error.reason), message=error.message)
        return Diarized((), (f"No speakers are named: {error.message}",))
    return diarized if diarized.turns else replace(diarized, warnings=(*diarized.warnings, _NO_VOICES))


async def _find_turns(
    recording: Recording, duration_s: float, params: TranscribeParams, backends: SpeechBackends, report: Report
) -> Diarized:
    async with aclosing(backends.diarize(recording, duration_s, params.speakers)) as events:
        async for event in events:
            if isinstance(event, Diarized):
                return event
            await report(event)
    raise AssertionError("diarization ends with Diarized or an error")
