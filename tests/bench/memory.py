"""Memory: how far the resident set of a program and its children grows over what it was when just started."""

import struct
import time
from collections.abc import Iterator

import numpy as np
import psutil

from services.common.audio import SAMPLE_BYTES, SAMPLE_RATE
from tests.bench.data import Samples, pcm_messages, wheel_recordings
from tests.bench.figures import Figure, Measured, Target
from tests.bench.plan import Plan
from tests.bench.scoring import slope
from tests.bench.system import Memory, MemorySampler, System, tree_rss

_MIB = 1024 * 1024
_UPLOAD_RATE, _UPLOAD_CHANNELS, _UPLOAD_SAMPLE_BYTES = 192_000, 8, 4
_UPLOAD_BYTES, _QUICK_UPLOAD_BYTES = 2048 * _MIB, 256 * _MIB
_EDGE_GROWTH_MIB, _ASR_GROWTH_MIB = 64, 300
_ASR_LONG_S, _DIARIZE_LONG_S = 3 * 3600, 3600
_SHORTER_S, _QUICK_S = 1200, 300
# The first part of a recording fills caches and pools; the slope is taken behind it.
_SETTLED_SHARE = 1 / 3


def measure(system: System, plan: Plan) -> Measured:
    """Upload 2 GB to the edge, then hold long recordings against recognition and diarization by gRPC."""
    recording = wheel_recordings()
    upload, upload_series = _upload(system, plan, recording)
    asr, asr_series = _service(system, plan, "asr", recording, _ASR_LONG_S)
    diarize, diarize_series = _service(system, plan, "diarize", recording, _DIARIZE_LONG_S)
    return Measured(
        [*upload, *asr, *diarize], {"memory": {"edge": upload_series, "asr": asr_series, "diarize": diarize_series}}
    )


def _upload(system: System, plan: Plan, recording: Samples) -> tuple[list[Figure], dict[str, list[float]]]:
    plan.say("memory: edge, a large upload")
    total = _QUICK_UPLOAD_BYTES if plan.quick else _UPLOAD_BYTES
    sent_at = 0.0

    def media() -> Iterator[bytes]:
        nonlocal sent_at
        yield from _large_wav(recording, total)
        sent_at = time.monotonic()

    idle = tree_rss(psutil.Process(system.pid("edge")))
    with MemorySampler(system.pid("edge")) as memory:
        started = time.monotonic()
        answer = system.upload(media(), total, diarize=False)
        answered = time.monotonic()
    uploading = (memory.peak(started, sent_at) - idle) / _MIB
    size = f"{total / _MIB:g} MB"
    figures = [
        Figure(
            f"edge RSS growth, upload of {size}",
            uploading,
            "MiB",
            None if plan.quick else Target(_EDGE_GROWTH_MIB),
            note=f"{answer.body['duration']:.0f} s of 192 kHz, 8 channels, float; idle {idle / _MIB:.0f} MiB, "
            f"sent in {sent_at - started:.0f} s",
        ),
        Figure(
            f"edge RSS growth, answer to {size}",
            (memory.peak(started, answered) - idle) / _MIB,
            "MiB",
            note="with the decoder's process",
        ),
    ]
    return figures, _series(memory, idle)


def _service(
    system: System, plan: Plan, program: str, recording: Samples, long_s: int
) -> tuple[list[Figure], dict[str, list[float]]]:
    length_s = _QUICK_S if plan.quick else long_s if plan.long else _SHORTER_S
    plan.say(f"memory: {program}, {length_s / 60:g} minutes")
    idle = tree_rss(psutil.Process(system.pid(program)))
    pcm = pcm_messages(recording.tobytes(), length_s * SAMPLE_RATE * SAMPLE_BYTES)
    progress: list[tuple[float, float]] = []
    with MemorySampler(system.pid(program)) as memory:
        started = time.monotonic()
        if program == "asr":
            system.recognize(pcm, lambda done_s: progress.append((time.monotonic(), done_s)))
        else:
            system.diarize(pcm, length_s, lambda done_s: progress.append((time.monotonic(), done_s)))
        ended = time.monotonic()
    growth = (memory.peak(started, ended) - idle) / _MIB
    target = Target(_ASR_GROWTH_MIB) if program == "asr" and length_s == long_s else None
    per_hour = _per_hour(memory, progress, length_s)
    figures = [
        Figure(
            f"{program} RSS growth, {length_s / 60:g} min",
            growth,
            "MiB",
            target,
            note=f"idle {idle / _MIB:.0f} MiB; took {ended - started:.0f} s; --long: {long_s / 3600:g} h",
        ),
        Figure(f"{program} RSS slope", per_hour, "MiB/h", note="least squares over the last two thirds"),
    ]
    if program == "diarize":
        ten_hours = None if per_hour is None else growth + per_hour * (10 - length_s / 3600)
        figures.append(Figure("diarize RSS growth, 10 h", ten_hours, "MiB", note="extrapolated by the slope"))
    return figures, _series(memory, idle)


def _per_hour(memory: Memory, progress: list[tuple[float, float]], length_s: int) -> float | None:
    """Return MiB per hour of audio, or None where too little progress was told."""
    if len(progress) < 3:
        return None
    at_s, done_s = zip(*progress, strict=True)
    hours = np.interp(memory.times_s, at_s, done_s) / 3600
    settled = (hours > _SETTLED_SHARE * length_s / 3600) & (np.asarray(memory.times_s) <= at_s[-1])
    rss_mib = np.asarray(memory.rss_bytes) / _MIB
    return slope(hours[settled].tolist(), rss_mib[settled].tolist()) if settled.sum() >= 3 else None


def _series(memory: Memory, idle: int) -> dict[str, list[float]]:
    begin = memory.times_s[0]
    return {
        "seconds": [round(at - begin, 2) for at in memory.times_s],
        "growth_mib": [round((rss - idle) / _MIB, 1) for rss in memory.rss_bytes],
    }


def _large_wav(recording: Samples, total_bytes: int) -> Iterator[bytes]:
    """Make a WAV file of `total_bytes` second by second: `recording` in a loop, 192 kHz, 8 channels, float32."""
    frame_bytes = _UPLOAD_CHANNELS * _UPLOAD_SAMPLE_BYTES
    byte_rate = _UPLOAD_RATE * frame_bytes
    fmt = struct.pack("<HHIIHH", 3, _UPLOAD_CHANNELS, _UPLOAD_RATE, byte_rate, frame_bytes, 8 * _UPLOAD_SAMPLE_BYTES)
    head = 12 + 8 + len(fmt) + 8
    remaining = total_bytes - head
    yield b"RIFF" + struct.pack("<I", total_bytes - 8) + b"WAVE"
    yield b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", remaining)
    second = 0
    while remaining:
        pick = np.arange(second * SAMPLE_RATE, (second + 1) * SAMPLE_RATE) % len(recording)
        mono = np.repeat(recording[pick].astype(np.float32) / 32768.0, _UPLOAD_RATE // SAMPLE_RATE)
        block = np.repeat(mono, _UPLOAD_CHANNELS).tobytes()[:remaining]
        remaining -= len(block)
        second += 1
        yield block
