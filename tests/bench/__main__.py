"""Measures the whole system: `python -m tests.bench`; prints a table, saves JSON and plots under build/bench."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tests.bench import (
    cases,
    edge_alone,
    gpu,
    live,
    live_speakers,
    memory,
    metering,
    qwen,
    report,
    sortformer,
    speakers,
    speed,
    start,
    whisper,
    words,
)
from tests.bench.data import BenchData
from tests.bench.figures import Figure, Measured
from tests.bench.plan import Plan
from tests.bench.system import System

_FOLDER = Path("build/bench")
_ON_OWN: dict[str, Callable[[Plan, Path], Measured]] = {
    "edge-alone": edge_alone.measure,
    "metering": metering.measure,
    "gpu": gpu.measure,
    "sortformer": sortformer.measure,
    "qwen": qwen.measure,
}
# Speed first, while the machine is cool.
_ON_WHEEL: dict[str, Callable[[System, Plan], Measured]] = {
    "start": start.measure,
    "speed": speed.measure,
    "live": live.measure,
    "live-load": live.measure_load,
    "whisper-live": whisper.measure_live,
    "silence": live.measure_silence,
    "memory": memory.measure,
}
_ON_DATA: dict[str, Callable[[System, Plan, BenchData], Measured]] = {
    "cases": cases.measure,
    "whisper": whisper.measure,
    "wer": words.measure_wer,
    "nospeech": words.measure_nospeech,
    "times": words.measure_times,
    "der": speakers.measure_der,
    "speakers": speakers.measure_words,
    "live-wer": live.measure_wer,
    "live-speakers": live_speakers.measure,
    "live-speakers-load": live_speakers.measure_load,
}
_SETTINGS = {
    "whisper": whisper.SETTINGS,
    "live-load": live.LOAD_SETTINGS,
    "whisper-live": whisper.LIVE_SETTINGS,
    "live-speakers": live_speakers.LIVE_SETTINGS,
    "live-speakers-load": live_speakers.LIVE_SETTINGS,
}


def main() -> int:
    """Measure the chosen groups; return 1 where a figure misses its target or could not be taken."""
    names = (*_ON_WHEEL, *_ON_OWN, *_ON_DATA)
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--quick", action="store_true", help="once and on less: minutes, and fewer verdicts")
    parser.add_argument("--long", action="store_true", help="hours of audio for memory, a fresh clone for the start")
    arguments = parser.parse_args()
    if arguments.quick and arguments.long:
        parser.error("--quick and --long exclude each other")
    folder = os.environ.get("BENCH_DATA")
    try:
        data = BenchData(Path(folder)) if folder else None
    except FileNotFoundError as error:
        parser.error(str(error))
    # The programs have sessions of their own: whoever ends this ends them by way of System.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    plan = Plan(arguments.quick, arguments.long)
    described = report.machine()
    _FOLDER.mkdir(parents=True, exist_ok=True)
    figures: list[Figure] = []
    series: dict[str, object] = {}
    failed = False
    for name in arguments.only:
        try:
            measured = _measure(name, plan, data)
        except Exception as error:  # one group's failure must not cost the others' figures
            failed = True
            measured = Measured([Figure(name, None, note=f"failed: {error!r}")])
        figures += measured.figures
        series |= measured.series
        report.save(_FOLDER, described, figures, series)
    print("{cpu}, {cores} cores; Python {python}; {system}; {date}\n".format(**described))
    print(report.table(figures))
    print(f"Saved to {_FOLDER}.")
    return 1 if failed or any(figure.passed is False for figure in figures) else 0


def _measure(name: str, plan: Plan, data: BenchData | None) -> Measured:
    """Measure one group on programs that have just been started, or on its own."""
    if name in _ON_DATA and data is None:
        return Measured([Figure(name, None, note="not measured: BENCH_DATA is not set")])
    if name in _ON_OWN:
        return _ON_OWN[name](plan, _FOLDER)
    with System(_FOLDER, _SETTINGS.get(name, {})) as system:
        if name in _ON_WHEEL:
            return _ON_WHEEL[name](system, plan)
        assert data is not None
        return _ON_DATA[name](system, plan, data)


if __name__ == "__main__":
    sys.exit(main())
