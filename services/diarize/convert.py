"""Pure functions between the protobuf messages and the domain's types."""

import math

from stt.common.v1 import common_pb2
from stt.diarize.v1 import diarize_pb2

from services.common.audio import SAMPLE_RATE
from services.common.errors import Reason, SttError
from services.diarize.engine import Turn

MAX_SPEAKERS = 20


def read_config(config: diarize_pb2.DiarizeConfig) -> tuple[int, float]:
    """Return the number of speakers and the seconds that will come; raises SttError (INVALID_REQUEST)."""
    if not 0 <= config.speakers <= MAX_SPEAKERS:
        raise SttError(
            Reason.INVALID_REQUEST,
            f"speakers must be 1 to {MAX_SPEAKERS}, or 0 to find the number out; it is {config.speakers}.",
        )
    if not (math.isfinite(config.expected_duration_s) and config.expected_duration_s >= 0):
        raise SttError(Reason.INVALID_REQUEST, "expected_duration_s must be 0 (not known) or a number of seconds.")
    return config.speakers, config.expected_duration_s


def write_progress(processed_s: float) -> diarize_pb2.DiarizeResponse:
    """Return the event that says how far the analysis is."""
    return diarize_pb2.DiarizeResponse(progress=common_pb2.Progress(processed_s=processed_s))


def write_turn(turn: Turn) -> diarize_pb2.DiarizeResponse:
    """Return the event that carries a turn."""
    return diarize_pb2.DiarizeResponse(
        turn=diarize_pb2.Turn(start_s=turn.start_s, end_s=turn.end_s, speaker=turn.speaker)
    )


def write_finished(samples: int, found: int, asked: int, model: str) -> diarize_pb2.DiarizeResponse:
    """Return the closing event: samples heard, speakers found and asked for (0: any number)."""
    warnings = []
    if found < asked:
        message = f"{asked} speakers were asked for; {found} could be told apart."
        warnings.append(common_pb2.Warning(reason="FEWER_SPEAKERS", message=message))
    return diarize_pb2.DiarizeResponse(
        finished=diarize_pb2.DiarizeFinished(
            samples=samples, duration_s=samples / SAMPLE_RATE, speakers=found, model=model, warnings=warnings
        )
    )
