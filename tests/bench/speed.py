"""Speed: the chain's wall time beside the slowest engine's, and real-time factors by length."""

from collections import defaultdict
from statistics import median

from services.common.audio import SAMPLE_RATE
from tests.bench.alone import Kind, engine_alone
from tests.bench.data import looped, wav_bytes, wheel_recordings
from tests.bench.figures import Figure, Measured, Target
from tests.bench.plan import Plan
from tests.bench.system import System

_ENGINES: tuple[Kind, ...] = ("asr", "diarize")
_LENGTHS_S = (30.0, 44.0, 120.0, 600.0)
_RTF_PLAIN, _RTF_DIARIZED, _RTF_DIARIZED_SHORT = 0.06, 0.15, 0.3
_SHORT_S = 120.0
_CHAIN_RATIO = 1.25


def measure(system: System, plan: Plan) -> Measured:
    """Time the wheel's recordings, joined to several lengths, through the edge and through the engines alone."""
    lengths = [length for length in _LENGTHS_S if length <= plan.max_recording_s]
    recordings = {f"{length:g}": looped(wheel_recordings(), length) for length in lengths}
    system.transcribe(wav_bytes(recordings["30"]), diarize=True)
    walls: dict[tuple[str, str], list[float]] = defaultdict(list)
    for turn in range(plan.repeats):
        for name, samples in recordings.items():
            # What is compared is taken within one minute: other work on the machine then weighs on both.
            plan.say(f"speed: {name} s, {turn + 1} of {plan.repeats}")
            for engine in _ENGINES:
                walls[engine, name].append(engine_alone(engine, {name: samples})[name].wall_s)
            for way, diarize in (("plain", False), ("diarized", True)):
                walls[way, name].append(system.transcribe(wav_bytes(samples), diarize=diarize).wall_s)
    wall_s = {key: median(values) for key, values in walls.items()}
    longest = f"{lengths[-1]:g}"
    ratios = [
        chain / max(engines)
        for chain, *engines in zip(*(walls[way, longest] for way in ("diarized", *_ENGINES)), strict=True)
    ]
    # Engines that fill all cores each take no less side by side than one after the other.
    floor = sum(wall_s[engine, longest] for engine in _ENGINES) / max(wall_s[engine, longest] for engine in _ENGINES)
    figures = [
        Figure(
            f"chain over slowest engine alone, {longest} s",
            median(ratios),
            target=Target(_CHAIN_RATIO) if lengths == list(_LENGTHS_S) else None,
            alone=1.0,
            note=f"{wall_s['diarized', longest]:.1f} s; alone: asr {wall_s['asr', longest]:.1f} s, "
            f"diarize {wall_s['diarize', longest]:.1f} s; one after the other over the slowest: {floor:.2f}",
        )
    ]
    for name, samples in recordings.items():
        length = len(samples) / SAMPLE_RATE
        slow = _RTF_DIARIZED_SHORT if length < _SHORT_S else _RTF_DIARIZED
        figures += [
            Figure(
                f"RTF without diarization, {name} s",
                wall_s["plain", name] / length,
                target=Target(_RTF_PLAIN),
                alone=wall_s["asr", name] / length,
            ),
            Figure(
                f"RTF with diarization, {name} s",
                wall_s["diarized", name] / length,
                target=Target(slow),
                alone=max(wall_s[engine, name] for engine in _ENGINES) / length,
            ),
        ]
    ways = ("plain", "diarized", *_ENGINES)
    rtf = {way: [wall_s[way, f"{length:g}"] / length for length in lengths] for way in ways}
    return Measured(figures, {"rtf": {"lengths_s": lengths, **rtf}})
