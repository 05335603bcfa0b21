"""What a program's metrics say of it, between two looks or since its start. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Self

from prometheus_client.parser import text_string_to_metric_families

from services.edge.errors import STATUS

FAULTS = frozenset(str(reason) for reason, status in STATUS.items() if status >= 500)
"""The reasons that are the server's; the others are callers' mistakes."""
_GROWING = ("_total", "_bucket", "_count", "_sum")
_QUANTILE = 0.95


@dataclass(frozen=True, slots=True)
class Model:
    """A model that is wanted."""

    id: str
    device: str
    is_loaded: bool


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits for an engine, and how long 95 of 100 waited at most; None where nothing did."""

    length: int
    wait_p95_s: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """What one replica's metrics say; `running`, `limits` and `queues` are by the kind of work."""

    version: str
    up_s: float
    models: tuple[Model, ...]
    running: Mapping[str, int]
    limits: Mapping[str, int]
    queues: Mapping[str, Queue]
    requests: float
    faults: float
    """Of those requests, how many failed by the server's fault."""


class Metrics:
    """The samples of one program: the value of every series, by name and labels."""

    def __init__(self, samples: list[tuple[str, dict[str, str], float]]) -> None:
        self._samples = samples

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what Prometheus reads; ValueError where it is nothing of the kind."""
        families = text_string_to_metric_families(text)
        return cls([(sample.name, sample.labels, sample.value) for family in families for sample in family.samples])

    def get(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Return the series of that name: their labels and values."""
        return [(labels, value) for of, labels, value in self._samples if of == name]

    def sum(self, name: str) -> float:
        """Return the sum of all series of that name."""
        return sum(value for _, value in self.get(name))

    def since(self, before: "Metrics | None") -> "Metrics":
        """Return them with what has grown since `before`, not since the start, unless there was a start in between."""
        started = "process_start_time_seconds"
        if before is None or before.sum(started) != self.sum(started):
            return self
        then = {(name, tuple(labels.items())): value for name, labels, value in before._samples}
        return Metrics(
            [
                (name, labels, value - then.get((name, tuple(labels.items())), 0.0) * name.endswith(_GROWING))
                for name, labels, value in self._samples
            ]
        )


def figures(metrics: Metrics, at_s: float) -> Figures:
    """Return what `metrics` say, which were read at the time `at_s`."""
    started_s = metrics.sum("process_start_time_seconds")
    lengths = _by_kind(metrics, "stt_queue_length")
    # The list of models is asked for with every request, and is none.
    rpcs = [(labels, n) for labels, n in metrics.get("stt_requests_total") if labels["method"] != "ListModels"]
    http = [n for labels, n in metrics.get("stt_http_requests_total") if labels["route"].startswith("/v1/")]
    errors = [(labels["reason"], n) for labels, n in metrics.get("stt_errors_total")]
    ends = errors + [(labels["outcome"], n) for labels, n in rpcs]
    return Figures(
        version=next((labels["version"] for labels, _ in metrics.get("stt_build_info")), ""),
        up_s=at_s - started_s if started_s else 0.0,
        models=tuple(Model(m["model"], m["device"], n == 1) for m, n in metrics.get("stt_model_loaded")),
        running=_by_kind(metrics, "stt_requests_running"),
        limits=_by_kind(metrics, "stt_requests_limit"),
        queues={kind: Queue(length, _quantile(metrics, kind)) for kind, length in lengths.items()},
        requests=sum(http) + sum(n for _, n in rpcs),
        faults=sum(n for reason, n in ends if reason in FAULTS),
    )


def _by_kind(metrics: Metrics, name: str) -> dict[str, int]:
    return {labels["kind"]: round(value) for labels, value in metrics.get(name)}


def _quantile(metrics: Metrics, kind: str) -> float | None:
    """Return what 95 of 100 waited at most, as Prometheus reckons it: evenly within a bucket."""
    buckets = sorted(
        (float(labels["le"]), count)
        for labels, count in metrics.get("stt_queue_wait_seconds_bucket")
        if labels["kind"] == kind
    )
    rank = _QUANTILE * buckets[-1][1] if buckets else 0.0
    if not rank:
        return None
    below_s, below = 0.0, 0.0
    for upto_s, count in buckets:
        if count >= rank:
            return below_s if upto_s == inf else below_s + (upto_s - below_s) * (rank - below) / (count - below)
        below_s, below = upto_s, count
    raise AssertionError("the last bucket has everything")
