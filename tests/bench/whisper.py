"""Whisper base served to many at once, beside the stock faster-whisper on the same weights, recordings and machine.

Recordings are those of `en_read` and `multilang` whose references are trusted, and readings joined to minutes. Where
one of them is measured nothing else runs; they take turns.
"""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import jiwer
import numpy as np
import psutil
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from services.asr.models import wheels
from tests.bench import live
from tests.bench.data import BenchData, Labelled, Samples, decode, pcm_messages
from tests.bench.figures import Figure, Measured, Target
from tests.bench.microphone import Talk, speeches
from tests.bench.plan import Plan
from tests.bench.stock_whisper import Run, Way, run, stock
from tests.bench.system import System

MODEL = "base"
SETTINGS = {"ASR_MODELS": MODEL, "ASR_FALLBACK_MODELS": "", "ASR_DEVICE": "cpu"}
LIVE_SETTINGS = SETTINGS | live.LOAD_SETTINGS
_TALK = Talk(MODEL, speeches)

_COUNTS = (1, 4, 16)
_STOCK, _BATCHED = "stock", "stock batched"
# Its best on two cores; the batched pipeline has both of them for one recording after the other.
_PEERS = {_STOCK: Way(locked=False, workers=2, threads=1), _BATCHED: Way(locked=True, threads=2, batch=8)}
_WALL, _CPU, _OVER_BATCHED = 0.5, 0.5, 1 / 1.3
_WORSE = 0.003
_JOINED_GAP_S = 0.3, 0.8
_FOUND = 0.95
# Words are not parted by spaces: characters are counted.
_UNSPACED = ("zh", "ja", "ko")

_LIVE_COUNTS, _LIVE_MOST = (1, 2, 4), 16

_Runs = Mapping[str, Mapping[int, Run]]


def measure(system: System, plan: Plan, data: BenchData) -> Measured:
    """Send recordings one, four and sixteen at a time to the service and to the stock library, then a long one."""
    entries = [entry for kind in ("en_read", "multilang") for entry in data.labelled(kind, ("A", "B")) if entry.text]
    if plan.quick:
        entries = entries[::4]
    samples, languages = [decode(entry.path) for entry in entries], [entry.language for entry in entries]
    joined, reference = _joined(data, plan.max_recording_s)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in wheels.read().items():
            Path(folder, name).write_bytes(content)
        turns = [_turn(system, plan, Path(folder), samples, languages, _COUNTS) for _ in range(plan.repeats)]
        long = [_turn(system, plan, Path(folder), [joined], ["en"], (1,)) for _ in range(plan.repeats)]
    figures = [
        *(figure for count in _COUNTS for figure in _ratios(turns, count, f"{len(entries)} recordings")),
        *_ratios(long, 1, "one joined recording"),
        *_errors(turns[0], entries),
        *_long_errors(long[0], reference),
        *_found(system, plan, data),
    ]
    return Measured(figures)


def measure_live(system: System, plan: Plan) -> Measured:
    """Hold live sessions and, with `--long`, more and more until finals come too late."""
    live.warm_up(system, _TALK)
    counts = [*_LIVE_COUNTS, *(range(_LIVE_COUNTS[-1] + 2, _LIVE_MOST + 1, 2) if plan.long else ())]
    figures, series = live.hold(system, plan, _TALK, counts, _LIVE_COUNTS[1], "whisper live")
    return Measured(figures, {"whisper_live": series})


def _turn(
    system: System,
    plan: Plan,
    folder: Path,
    samples: Sequence[Samples],
    languages: Sequence[str],
    counts: Sequence[int],
) -> _Runs:
    plan.say(f"whisper: {len(samples)} recordings by the service")
    cpu_s = partial(_cpu_s, psutil.Process(system.pid("asr")))
    ours = {count: run(count, partial(_transcribe, system), samples, languages, cpu_s) for count in counts}
    theirs = {}
    for name, way in _PEERS.items():
        plan.say(f"whisper: {len(samples)} recordings by {name}")
        theirs[name] = stock(way, folder, samples, languages, counts, "cpu", "int8")
    return {"ours": ours, **theirs}


def _transcribe(system: System, recording: Samples, language: str) -> str:
    return system.recognize(pcm_messages(recording.tobytes()), model=MODEL, language=language)


def _cpu_s(program: psutil.Process) -> float:
    times = [process.cpu_times() for process in (program, *program.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def _ratios(turns: Sequence[_Runs], count: int, what: str) -> list[Figure]:
    """Compare with the stock library, turn by turn: below 1 is less than theirs."""

    def over(peer: str, figure: Callable[[Run], float]) -> float:
        return median(figure(turn["ours"][count]) / figure(turn[peer][count]) for turn in turns)

    walls = ", ".join(f"{name} {median(turn[name][count].wall_s for turn in turns):.1f} s" for name in turns[0])
    cpus = ", ".join(f"{name} {median(turn[name][count].cpu_s for turn in turns):.1f} s" for name in turns[0])
    return [
        Figure(
            f"whisper time over stock, {what}, {count} at once", over(_STOCK, _wall_s), "x", Target(_WALL), note=walls
        ),
        Figure(f"whisper CPU over stock, {what}, {count} at once", over(_STOCK, _used_s), "x", Target(_CPU), note=cpus),
        Figure(
            f"whisper time over batched, {what}, {count} at once", over(_BATCHED, _wall_s), "x", Target(_OVER_BATCHED)
        ),
    ]


def _wall_s(each: Run) -> float:
    return each.wall_s


def _used_s(each: Run) -> float:
    return each.cpu_s


def _normalized(text: str, language: str) -> str:
    if language == "en":
        return str(EnglishTextNormalizer()(text))
    return str(BasicTextNormalizer(split_letters=language in _UNSPACED)(text))


def _errors(turn: _Runs, entries: Sequence[Labelled]) -> list[Figure]:
    rates: dict[str, dict[str, float]] = {}
    for name, runs in turn.items():
        texts: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
        for entry, text in zip(entries, runs[1].texts, strict=True):
            for key in (entry.language, "all"):
                texts[key][0].append(_normalized(entry.text, entry.language))
                texts[key][1].append(_normalized(text, entry.language))
        rates[name] = {key: jiwer.wer(*pair) for key, pair in texts.items()}
    figures = []
    for key, ours in rates["ours"].items():
        best = min(rates[name][key] for name in _PEERS)
        note = ", ".join(f"{name} {rates[name][key]:.3f}" for name in _PEERS)
        unit = "characters" if key in _UNSPACED else "words"
        target = Target(round(best + _WORSE, 4)) if key == "all" else None
        figures.append(Figure(f"whisper errors, {key}", ours, f"of {unit}", target, best, note))
    return figures


def _joined(data: BenchData, seconds: float) -> tuple[Samples, str]:
    """Join readings in a random order, with pauses between them."""
    entries = data.labelled("en_read", ("A", "B"))
    rng = np.random.default_rng(1)
    parts: list[Samples] = []
    texts: list[str] = []
    length_s = 0.0
    while length_s < seconds:
        for place in rng.permutation(len(entries)):
            parts += [decode(entries[place].path), np.zeros(round(rng.uniform(*_JOINED_GAP_S) * 16_000), np.int16)]
            texts.append(entries[place].text)
            length_s += (len(parts[-1]) + len(parts[-2])) / 16_000
            if length_s >= seconds:
                break
    return np.concatenate(parts), " ".join(texts)


def _long_errors(turn: _Runs, reference: str) -> list[Figure]:
    rates = {
        name: jiwer.wer(_normalized(reference, "en"), _normalized(runs[1].texts[0], "en"))
        for name, runs in turn.items()
    }
    best = min(rates[name] for name in _PEERS)
    note = ", ".join(f"{name} {rates[name]:.3f}" for name in _PEERS)
    return [Figure("whisper errors, joined readings", rates["ours"], "of words", Target(best + _WORSE), best, note)]


def _found(system: System, plan: Plan, data: BenchData) -> list[Figure]:
    """Count the recordings whose language is found without being told."""
    plan.say("whisper: languages")
    entries = [*data.labelled("multilang", ("A", "B")), *data.labelled("multilang_lid", ("label-only",))]
    # Those of two languages have none to be found.
    entries = [entry for entry in entries if entry.language and "+" not in entry.language]
    wrong = []
    for entry in entries:
        pcm = pcm_messages(decode(entry.path).tobytes())
        _, language = system.recognized(pcm, lambda _: None, MODEL, "auto")
        if language != entry.language:
            wrong.append(f"{entry.path.name}: {language}")
    share = 1 - len(wrong) / len(entries)
    note = "; ".join([f"{len(entries)} recordings", *wrong])
    return [Figure("whisper languages found", share, target=Target(_FOUND, at_least=True), note=note)]
