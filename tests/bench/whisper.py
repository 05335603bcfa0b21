"""Whisper served to many at once, beside the stock faster-whisper on the same model, recordings and machine.

The model is the tests' own, which knows spoken digits. It hears 7 s at a time, and unlike the public models it may be
given less than 30 s of input: the service makes use of that (`encode_short`), the stock library pads whatever there is
to 30 s. So the service is also measured without it. Where one of them is measured nothing else runs; they take turns.
"""

import json
import math
import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path
from statistics import median

from tests.bench import digits, live
from tests.bench.data import Samples, pcm_messages
from tests.bench.figures import Figure, Measured, Target
from tests.bench.plan import Plan
from tests.bench.scoring import plain_words, word_error_rate
from tests.bench.stock_whisper import Run, Way, run, stock
from tests.bench.system import System

LIVE_SETTINGS = digits.SETTINGS | live.LOAD_SETTINGS

_COUNTS = (1, 4, 16)
_MOST = _COUNTS[-1]
_LENGTHS_S, _QUICK_LENGTHS_S = (20.0, 50.0), (10.0, 20.0)
_SHORT, _SHORT_UNTIMED = 105, 5
_TRIES = 2
_OVER_LOCKED, _OVER_BEST = 2.0, 1.2
_LIVE_COUNTS, _LIVE_STEP, _LIVE_MOST = (4, 8), 8, 96

_CORES = min(4, os.cpu_count() or 1)
_OURS, _PADDED, _BY_8, _LOCKED, _BATCHED = "ours", "padded", "by 8", "locked", "batched"
_LOCK, _BATCH = Way(locked=True), Way(locked=True, batch=8)
_TUNED = {
    f"{workers}x{threads}": Way(locked=False, workers=workers, threads=threads)
    for workers, threads in ((1, _CORES), (_CORES, 1), (2, _CORES))
}

# By requests at once; a way's turns, by its name.
_Runs = Mapping[int, Run]
_Turns = Mapping[str, Sequence[_Runs]]
_Take = Callable[[], _Runs]


def measure(plan: Plan, log_dir: Path) -> Measured:
    """Send recordings one, four and sixteen at a time to the service, in batches and not, and to the stock library."""
    recordings = digits.recordings(_MOST, _QUICK_LENGTHS_S if plan.quick else _LENGTHS_S)
    samples = [recording.samples for recording in recordings]
    tried = dict.fromkeys(_TUNED, math.inf)
    for _ in range(1 if plan.quick else _TRIES):
        for name, way in _TUNED.items():
            plan.say(f"whisper: looking for the best of stock, {name}")
            tried[name] = min(tried[name], _ask_stock(way, samples, (_MOST,))[_MOST].wall_s)
    best = min(tried, key=tried.__getitem__)
    turns: dict[str, list[_Runs]] = defaultdict(list)
    waits: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        ours: dict[str, _Take] = {
            name: partial(_serve, log_dir, settings, samples, counts)
            for name, settings, counts in (
                (_OURS, {}, _COUNTS),
                (_PADDED, {"MODEL_DIR": str(_padding(Path(folder)))}, _COUNTS),
                (_BY_8, {"ASR_MAX_BATCH": "8"}, (_MOST,)),
            )
        }
        theirs: dict[str, _Take] = {
            name: partial(_ask_stock, way, samples, _COUNTS)
            for name, way in ((_LOCKED, _LOCK), (best, _TUNED[best]), (_BATCHED, _BATCH))
        }
        for turn in range(plan.repeats):
            for name, take in chain(*zip(ours.items(), theirs.items(), strict=True)):
                plan.say(f"whisper: {name}, {turn + 1} of {plan.repeats}")
                turns[name].append(take())
            plan.say(f"whisper: alone, {turn + 1} of {plan.repeats}")
            waits.append(_alone(log_dir))
    audio_s = sum(recording.seconds for recording in recordings)
    speeds = {name: _speeds(runs, audio_s) for name, runs in turns.items()}
    targets = () if plan.quick else (Target(_OVER_LOCKED, at_least=True), Target(_OVER_BEST, at_least=True))
    figures = [
        *_throughputs(speeds, best, f"tried: {_listed({name: audio_s / wall_s for name, wall_s in tried.items()})}"),
        *_ratios(turns, best, targets),
        _errors(turns, [recording.text for recording in recordings]),
        *_batching(turns, waits),
    ]
    shown = {"ours": _OURS, "padded": _PADDED, "locked": _LOCKED, "best": best, "batched": _BATCHED}
    series = {label: [speeds[name][count] for count in _COUNTS] for label, name in shown.items()}
    return Measured(figures, {"whisper": {"requests": _COUNTS, **series, "best_is": best}})


def measure_live(system: System, plan: Plan) -> Measured:
    """Hold live sessions with the same model and, with `--long`, more and more until finals come too late."""
    live.warm_up(system, digits.TALK)
    counts = [*_LIVE_COUNTS, *(range(_LIVE_COUNTS[-1] + _LIVE_STEP, _LIVE_MOST + 1, _LIVE_STEP) if plan.long else ())]
    figures, series = live.hold(system, plan, digits.TALK, counts, _LIVE_COUNTS[-1], "whisper live")
    return Measured(figures, {"whisper_live": series})


def _serve(log_dir: Path, settings: Mapping[str, str], samples: Sequence[Samples], counts: Sequence[int]) -> _Runs:
    """Start the programs, let them transcribe a recording that is not timed, then all of them over gRPC."""
    with System(log_dir, {**digits.SETTINGS, **settings}) as system:
        transcribe = partial(_transcribe, system)
        transcribe(samples[0])
        return {count: run(count, transcribe, samples) for count in counts}


def _ask_stock(way: Way, samples: Sequence[Samples], counts: Sequence[int]) -> _Runs:
    return stock(way, digits.MODELS / digits.MODEL, samples, counts, "cpu", "int8")


def _alone(log_dir: Path) -> tuple[float, float]:
    """Return the seconds that a short recording takes when nothing else comes, and how many more where it may wait."""
    other_dir = log_dir / "by-16"
    other_dir.mkdir(exist_ok=True)
    with (
        System(log_dir, digits.SETTINGS) as by_1,
        System(other_dir, digits.SETTINGS | {"ASR_MAX_BATCH": "16"}) as by_16,
    ):
        order = [by_1, by_16]
        taken: list[dict[System, float]] = []
        for recording in digits.short_recordings(_SHORT):
            # Neither is always the first to hear a recording.
            order.reverse()
            taken.append({system: _seconds(system, recording.samples) for system in order})
        settled = taken[_SHORT_UNTIMED:]
        return median(each[by_1] for each in settled), median(each[by_16] - each[by_1] for each in settled)


def _seconds(system: System, recording: Samples) -> float:
    started = time.monotonic()
    _transcribe(system, recording)
    return time.monotonic() - started


def _transcribe(system: System, recording: Samples) -> str:
    return system.recognize(pcm_messages(recording.tobytes()), model=digits.MODEL)


def _padding(folder: Path) -> Path:
    """Make a folder of models in which the digits' is one that takes 30 s of input, as the public models do."""
    config = shutil.copytree(digits.MODELS / digits.MODEL, folder / digits.MODEL) / "preprocessor_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"encode_short": False}))
    return folder


def _speeds(runs: Sequence[_Runs], audio_s: float) -> dict[int, float]:
    """Return by requests at once how many seconds of audio are transcribed in a second."""
    return {count: median(audio_s / turn[count].wall_s for turn in runs) for count in runs[0]}


def _throughputs(speeds: Mapping[str, Mapping[int, float]], best: str, tried: str) -> list[Figure]:
    figures = []
    for count in _COUNTS:
        others = _listed({name: speeds[name][count] for name in (_LOCKED, _BATCHED, _PADDED)})
        note = f"alone: stock with {best} (workers x threads); {others}"
        name = f"whisper audio per time, {count} at once"
        figures.append(Figure(name, speeds[_OURS][count], "x", alone=speeds[best][count], note=f"{note}; {tried}"))
    return figures


def _ratios(turns: _Turns, best: str, targets: Sequence[Target]) -> list[Figure]:
    """Compare with the stock library, turn by turn."""
    peers = {"stock behind a lock": _LOCKED, f"stock with {best}": best, "stock batched": _BATCHED}
    figures = []
    for label, ours, limits in (("whisper", _OURS, targets), ("whisper padded to 30 s", _PADDED, ())):
        for (peer, theirs), target in zip_longest(peers.items(), limits):
            ratio = _over(turns[ours], turns[theirs])
            figures.append(Figure(f"{label} over {peer}, {_MOST} at once", ratio, target=target, alone=1.0))
    return figures


def _over(ones: Sequence[_Runs], others: Sequence[_Runs]) -> float:
    """Return how many times faster than the others the ones are."""
    return median(other[_MOST].wall_s / one[_MOST].wall_s for one, other in zip(ones, others, strict=True))


def _errors(turns: _Turns, references: Sequence[str]) -> Figure:
    wer = {}
    for name, runs in turns.items():
        texts = [text for turn in runs for run in turn.values() for text in run.texts]
        wer[name] = word_error_rate([*references] * (len(texts) // len(references)), texts, _plain)
    others = ", ".join(f"{name} {rate:.3f}" for name, rate in wer.items() if name not in (_OURS, _LOCKED))
    note = f"{len(' '.join(references).split())} words; alone: stock behind a lock; {others}"
    return Figure("WER of digits, whisper", wer[_OURS], target=Target(wer[_LOCKED]), alone=wer[_LOCKED], note=note)


def _batching(turns: _Turns, waits: Sequence[tuple[float, float]]) -> list[Figure]:
    """Tell what batches cost one that comes alone, and what they would give many on a CPU."""
    alone_ms, waited_ms = (1000 * median(column) for column in zip(*waits, strict=True))
    note = f"of 2 s, which take {alone_ms:.1f} ms; decoded by 16 instead of by 1"
    gained = _over(turns[_BY_8], turns[_OURS])
    return [
        Figure("waiting for company costs a short request", waited_ms, "ms", note=note),
        Figure(f"whisper by 8 over by 1, {_MOST} at once", gained, alone=1.0, note="a CPU's default is by 1"),
    ]


def _plain(text: str) -> str:
    return " ".join(plain_words(text))


def _listed(speeds: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {speed:.1f}" for name, speed in speeds.items())
