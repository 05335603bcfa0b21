"""Pure functions between the protobuf messages and the domain's types."""

import math

from stt.common.v1 import common_pb2
from stt.diarize.v1 import diarize_pb2

from services.common.audio import SAMPLE_RATE
from services.common.errors import Reason, SttError
from services.diarize.choice import Choice
from services.diarize.engine import Caveat, Turn, Update

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
    return diarize_pb2.DiarizeResponse(turn=_turn(turn))


def write_update(update: Update) -> diarize_pb2.DiarizeResponse:
    """Return the event that carries what is known of a live session."""
    turns = [_turn(turn) for turn in update.turns]
    return diarize_pb2.DiarizeResponse(
        update=diarize_pb2.Update(since_s=update.since_s, until_s=update.until_s, turns=turns)
    )


def write_finished(samples: int, found: set[int], asked: int, choice: Choice) -> diarize_pb2.DiarizeResponse:
    """Return the closing event: samples heard, the speakers found and how many were asked for (0: any number)."""
    caveats, engine = list(choice.caveats), choice.engine
    if len(found) < asked:
        message = f"{asked} speakers were asked for; {len(found)} could be told apart."
        caveats.append(Caveat("FEWER_SPEAKERS", message))
    if not asked and len(found) == engine.max_speakers > 0:
        message = f"{engine.model_id} tells {engine.max_speakers} speakers apart at most; there may be more."
        caveats.append(Caveat("MAYBE_MORE_SPEAKERS", message))
    return diarize_pb2.DiarizeResponse(
        finished=diarize_pb2.DiarizeFinished(
            samples=samples,
            duration_s=samples / SAMPLE_RATE,
            speakers=len(found),
            model=engine.model_id,
            warnings=[common_pb2.Warning(reason=each.reason, message=each.message) for each in caveats],
        )
    )


def _turn(turn: Turn) -> diarize_pb2.Turn:
    return diarize_pb2.Turn(start_s=turn.start_s, end_s=turn.end_s, speaker=turn.speaker)
