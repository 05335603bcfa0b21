"""What PromQL expressions use: metrics, their labels and the values those are compared with; and what programs have."""

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from services.common.errors import Reason

# Diarization counts what every service counts, and no more.
MODULES = (
    "services.common.metrics",
    "services.common.service_metrics",
    "services.asr.metrics",
    "services.summarize.metrics",
    "services.edge.metrics",
)
SCRAPED = {"job", "instance"}
# Prometheus' own, and the client's.
OTHER = {
    "up": set[str](),
    "ALERTS": {"alertname", "alertstate", "severity"},
    "process_cpu_seconds_total": set[str](),
    "process_resident_memory_bytes": set[str](),
    "process_start_time_seconds": set[str](),
}
VALUES = {
    "job": {"edge", "asr", "diarize", "summarize"},
    "device": {"cpu", "cuda"},
    "kind": {"recording", "live", "text", "final", "look", "file"},
    "outcome": {"ok", "cancelled", *Reason},
    "reason": {*Reason},
    "service": {"asr", "diarize", "summarize"},
    "alertstate": {"firing"},
}
# What a regular expression of them is compared with is no list of names.
PATTERNS = {"route", "alertname", "instance"}
VARIABLES = {'"$instance"', '"$job"'}

_SELECTOR = re.compile(r"\b((?:stt|process)_\w+|stt:[\w:]+|up|ALERTS)\b(?!\s*\()(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*("[^"]*")')
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")


@dataclass(frozen=True)
class Selector:
    """A metric, and what its labels are compared with."""

    metric: str
    matchers: tuple[tuple[str, str], ...]


def selectors(expression: str) -> list[Selector]:
    """Return every selector of an expression; what stands between quotes or in groupings is no metric."""
    # Label names (`up` is one word of many) only stand in groupings and between braces.
    bare = _GROUPING.sub(" ", expression)
    return [
        Selector(name, tuple((label, value) for label, _, value in _MATCHER.findall(inside)))
        for name, inside in _SELECTOR.findall(bare)
    ]


def grouping_labels(expression: str) -> set[str]:
    """Return the labels that an expression groups or joins by."""
    return {label for inside in _GROUPING.findall(expression) for label in re.findall(r"\w+", inside)}


def compared_values(selector: Selector) -> Iterator[tuple[str, str]]:
    """Return the names that labels are compared with, one by one."""
    for label, quoted in selector.matchers:
        if label not in PATTERNS and quoted not in VARIABLES:
            yield from ((label, value) for value in quoted.strip('"').split("|"))


def known_metrics(rules: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    """Return every name an expression may use, with its labels: the programs', Prometheus' own, and recorded ones."""
    recorded = {rule["record"]: grouping_labels(rule["expr"]) - {"le"} for rule in rules if "record" in rule}
    return {**_program_metrics(), **OTHER, **recorded}


def _program_metrics() -> dict[str, set[str]]:
    for module in MODULES:
        importlib.import_module(module)
    series = {}
    # The registry tells a metric's labels only once there are values for them.
    for metric in {*REGISTRY._collector_to_names}:
        if isinstance(metric, MetricWrapperBase) and metric._name.startswith("stt_"):
            labels = set(metric._labelnames)
            match metric._type:
                case "counter":
                    series[metric._name + "_total"] = labels
                case "histogram":
                    series[metric._name + "_bucket"] = labels | {"le"}
                    series[metric._name + "_sum"] = series[metric._name + "_count"] = labels
                case _:
                    series[metric._name] = labels
    return series
