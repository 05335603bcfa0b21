"""Sortformer at its true size, of random weights: how fast it is, alone and in company, and how many a GPU carries.

Speed depends on how many weights there are, not on what they are. Who spoke is not looked at.
"""

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import grpc
from stt.diarize.v1 import diarize_pb2, diarize_pb2_grpc

from services.common.audio import SAMPLE_BYTES, SAMPLE_RATE
from tests.bench.data import Samples, looped, pcm_messages, wheel_recordings
from tests.bench.figures import Figure, Measured
from tests.bench.plan import Plan
from tests.bench.system import System

_MODEL = "diar_streaming_sortformer_4spk-v2"
_AT_ONCE, _GPU_BATCH = 4, 32
_LENGTH_S, _QUICK_LENGTH_S = 600.0, 120.0
_LOAD_S, _REQUEST_S = 300.0, 3600.0
_STREAMS = (4, 8, 16, 32, 64, 128, 256)
_STREAM_S = 30.0
_PIECE_S = 0.1
_LATE_S = 1.0
"""A stream is late where what it said is told of so much later than at best."""


def measure(plan: Plan, log_dir: Path) -> Measured:
    """Diarize recordings one by one, and several at once; on a GPU also hold live streams until they are late."""
    if find_spec("nemo") is None:
        return Measured([Figure("sortformer", None, note="not measured: NeMo is not installed (extra diarize-nemo)")])
    import torch

    from tests.models.sortformer import TRUE, save

    device = "cuda" if torch.cuda.is_available() else "cpu"
    recording = looped(wheel_recordings(), _QUICK_LENGTH_S if plan.quick else _LENGTH_S)
    with tempfile.TemporaryDirectory() as folder:
        plan.say("sortformer: making a model of the true size")
        save(Path(folder, f"{_MODEL}.nemo"), TRUE, wheel_recordings()[: 60 * SAMPLE_RATE])
        settings = {
            "MODEL_DIR": folder,
            "DIARIZE_DEVICE": device,
            "DIARIZE_MAX_REQUESTS": str(_AT_ONCE),
            "DIARIZE_MAX_BATCH": str(_AT_ONCE if device == "cpu" else _GPU_BATCH),
            "DIARIZE_MAX_SESSIONS": str(_STREAMS[-1]),
        }
        with System(log_dir, settings) as system:
            _wait_until_loaded(system)
            figures = _recordings(system, plan, recording, device)
            if device == "cuda":
                figures.append(_streams(system, plan))
    return Measured(figures)


def _recordings(system: System, plan: Plan, recording: Samples, device: str) -> list[Figure]:
    length_s = len(recording) / SAMPLE_RATE
    alone_s, together_s = [], []
    for turn in range(plan.repeats):
        plan.say(f"sortformer: recordings, {turn + 1} of {plan.repeats}")
        alone_s.append(_timed(system, recording, 1))
        together_s.append(_timed(system, recording, _AT_ONCE))
    speedup = statistics.median(_AT_ONCE * one / all_ for one, all_ in zip(alone_s, together_s, strict=True))
    return [
        Figure(f"sortformer RTF, {device}", statistics.median(alone_s) / length_s, note="true size, random weights"),
        Figure(f"sortformer, {_AT_ONCE} at once over one by one, {device}", speedup, "x"),
    ]


def _streams(system: System, plan: Plan) -> Figure:
    """Return how many live streams are told of in time."""
    speech = looped(wheel_recordings(), _STREAM_S)
    carried = 0
    for count in _STREAMS:
        plan.say(f"sortformer: {count} live streams")
        with ThreadPoolExecutor(count) as pool:
            late_s = list(pool.map(lambda _: _stream(system, speech), range(count)))
        if statistics.quantiles(late_s, n=20)[-1] > _LATE_S:
            break
        carried = count
    return Figure("sortformer live streams a GPU carries", carried, note=f"p95 told within {_LATE_S:g} s of the best")


def _stream(system: System, speech: Samples) -> float:
    """Speak in real time; return how much later than the earliest the latest update came, in seconds."""
    delays_s: list[float] = []
    began = time.monotonic()

    def requests() -> Iterator[diarize_pb2.DiarizeRequest]:
        yield diarize_pb2.DiarizeRequest(config=diarize_pb2.DiarizeConfig(live=diarize_pb2.LiveConfig()))
        pieces = range(0, len(speech), round(_PIECE_S * SAMPLE_RATE))
        for number, start in enumerate(pieces, start=1):
            threading.Event().wait(max(0.0, began + number * _PIECE_S - time.monotonic()))
            yield diarize_pb2.DiarizeRequest(audio=speech[start : start + pieces.step].tobytes())

    with grpc.insecure_channel(system.address("diarize")) as channel:
        for event in diarize_pb2_grpc.DiarizeServiceStub(channel).Diarize(requests(), timeout=_REQUEST_S):
            if event.HasField("update"):
                delays_s.append(time.monotonic() - began - event.update.until_s)
    return max(delays_s[:-2]) - min(delays_s[:-2])


def _diarize(system: System, recording: Samples) -> str:
    """Return which model answered."""
    data = recording.tobytes()

    def requests() -> Iterator[diarize_pb2.DiarizeRequest]:
        config = diarize_pb2.DiarizeConfig(expected_duration_s=len(data) / SAMPLE_BYTES / SAMPLE_RATE)
        yield diarize_pb2.DiarizeRequest(config=config)
        for message in pcm_messages(data):
            yield diarize_pb2.DiarizeRequest(audio=message)

    with grpc.insecure_channel(system.address("diarize")) as channel:
        events = list(diarize_pb2_grpc.DiarizeServiceStub(channel).Diarize(requests(), timeout=_REQUEST_S))
    return str(events[-1].finished.model)


def _wait_until_loaded(system: System) -> None:
    silence = looped(wheel_recordings()[:1], 1.0)
    deadline = time.monotonic() + _LOAD_S
    while _diarize(system, silence) != _MODEL:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{_MODEL} is not loaded after {_LOAD_S:g} s")
        time.sleep(0.5)


def _timed(system: System, recording: Samples, times: int) -> float:
    """Return the seconds that it takes to diarize a recording so many times at once."""
    started = time.monotonic()
    with ThreadPoolExecutor(times) as pool:
        list(pool.map(lambda _: _diarize(system, recording), range(times)))
    return time.monotonic() - started
