"""The table, the JSON file and the plots of one run."""

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from tests.bench.figures import Figure

_PACKAGES = (
    "grpcio",
    "aiohttp",
    "av",
    "ctranslate2",
    "faster-whisper",
    "moonshine-voice",
    "numpy",
    "onnxruntime",
    "pocketsphinx",
)
_VERDICTS = {True: "pass", False: "FAIL", None: "-"}


def machine() -> dict[str, Any]:
    """Describe what the figures were taken on."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "cpu": _cpu_model(),
        "load_before": os.getloadavg(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def table(figures: Sequence[Figure]) -> str:
    """Lay the figures out for people."""
    header = ("figure", "value", "alone", "target", "", "note")
    rows = [
        (
            figure.name,
            _number(figure.value, figure.unit),
            _number(figure.alone, figure.unit),
            str(figure.target or ""),
            _VERDICTS[figure.passed],
            figure.note,
        )
        for figure in figures
    ]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(5)]
    lines = [
        "  ".join([cell.ljust(width) for cell, width in zip(row[:5], widths, strict=True)] + [row[5]]).rstrip()
        for row in (header, *rows)
    ]
    verdicts = [figure.passed for figure in figures]
    unmeasured = sum(figure.value is None for figure in figures)
    lines += ["", f"{verdicts.count(True)} on target, {verdicts.count(False)} off, {unmeasured} not measured"]
    return "\n".join(lines)


def save(folder: Path, described: Mapping[str, Any], figures: Sequence[Figure], series: Mapping[str, Any]) -> None:
    """Write `bench.json` and a PNG for each series that has a plot."""
    rows = [{**asdict(figure), "passed": figure.passed} for figure in figures]
    result = {"machine": described, "figures": rows, "series": series}
    (folder / "bench.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    for name, plot in _PLOTS.items():
        if name in series:
            canvas, axes = plt.subplots(figsize=(9, 5), layout="constrained")
            plot(axes, series[name])
            canvas.savefig(folder / f"{name}.png", dpi=120)
            plt.close(canvas)


def _plot_rtf(axes: Axes, rtf: Mapping[str, Sequence[float]]) -> None:
    labels = {"plain": "edge", "diarized": "edge, with speakers", "asr": "asr alone", "diarize": "diarize alone"}
    for way, label in labels.items():
        axes.plot(rtf["lengths_s"], rtf[way], "o-" if way in ("plain", "diarized") else "x--", label=label)
    axes.set(xscale="log", xlabel="length of the recording (s)", ylabel="wall time / length", title="Real-time factor")
    axes.set_xticks(rtf["lengths_s"], [f"{length:g}" for length in rtf["lengths_s"]], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_ylim(bottom=0)
    axes.legend()


def _plot_memory(axes: Axes, memory: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    for program, samples in memory.items():
        axes.plot(samples["seconds"], samples["growth_mib"], label=program)
    axes.set(xlabel="time (s)", ylabel="RSS over idle (MiB)", title="Memory of each program's process tree")
    axes.legend()


def _plot_word_times(axes: Axes, errors: Mapping[str, Sequence[float]]) -> None:
    bins = [-0.3 + 0.01 * step for step in range(61)]
    for name, label in (("onset_s", "onset"), ("end_s", "end")):
        axes.hist([min(max(error, -0.3), 0.3) for error in errors[name]], bins, alpha=0.6, label=label)
    axes.set(xlabel="error (s), +-0.3 and beyond at the edges", ylabel="words", title="Word times, digits")
    axes.legend()


def _plot_der(axes: Axes, der: Mapping[str, Mapping[str, float]]) -> None:
    names = list(der["service"])
    for shift, way in ((-0.2, "service"), (0.2, "alone")):
        axes.bar([place + shift for place in range(len(names))], [der[way][name] for name in names], 0.4, label=way)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
    axes.set(ylabel="diarization error rate", title="DER, collar 0, overlap scored")
    axes.legend()


def _plot_live_latency(axes: Axes, latency: Mapping[str, Sequence[float]]) -> None:
    for name, label in (("first_s", "first partial after speech begins"), ("final_s", "final after the endpoint")):
        values = sorted(latency[name])
        axes.step(values, [(place + 1) / len(values) for place in range(len(values))], label=label, where="post")
    axes.set(xlabel="time (s)", ylabel="share of utterances", title="Live latency, 4 sessions", ylim=(0, 1))
    axes.legend()


def _plot_live_load(axes: Axes, load: Mapping[str, Sequence[float]]) -> None:
    labels = {"first_p95_s": "first partial, p95", "final_p50_s": "final, p50", "final_p95_s": "final, p95"}
    for name, label in labels.items():
        axes.plot(load["sessions"], load[name], "o-", label=label)
    axes.axhline(1.5, color="grey", linestyle=":", label="target of finals, p95")
    axes.set(xlabel="live sessions", ylabel="latency (s)", title="Live latency over sessions")
    axes.set_ylim(bottom=0)
    axes.legend()


def _plot_edge_alone(axes: Axes, load: Mapping[str, Sequence[float]]) -> None:
    for name, label in (("p50_ms", "p50"), ("p95_ms", "p95")):
        axes.plot(load["sessions"], load[name], "o-", label=label)
    axes.set(xlabel="live sessions on one core", ylabel="added latency (ms)", title="The edge alone")
    axes.set_ylim(bottom=0)
    axes.legend()


_PLOTS: Mapping[str, Callable[[Axes, Any], None]] = {
    "rtf": _plot_rtf,
    "memory": _plot_memory,
    "word_time_errors": _plot_word_times,
    "der_per_file": _plot_der,
    "live_latency": _plot_live_latency,
    "live_load": _plot_live_load,
    "whisper_live": _plot_live_load,
    "gpu_live": _plot_live_load,
    "edge_alone": _plot_edge_alone,
}


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    digits = 3 if not unit else 1
    return f"{value:.{digits}f} {unit}".rstrip()


def _cpu_model() -> str:
    """Return the processor's name as Linux tells it, else as Python does."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
