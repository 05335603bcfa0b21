"""How the status looks: for people at 120 columns, and for scripts as JSON. Pure."""

import json
from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass
from itertools import groupby

from services.edge.status.asking import Look, Replica, StoreNode
from services.edge.status.figures import Figures, figures

_HEAD = ("program", "replica", "state", "up", "version", "running", "live", "queue", "errors")
_NONE = "-"
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Row:
    replica: Replica
    figures: Figures | None
    """None where its metrics cannot be read."""


def as_text(look: Look, before: Look | None) -> str:
    """Return the screen: what `look` saw, requests and waits since `before` or, without one, since each start."""
    rows = _rows(look, before)
    over_s = look.at_s - before.at_s if before else None
    lines = _table([_HEAD, *(_cells(row, over_s) for row in rows)])
    lines += ["", *(_store_line(node) for node in look.store)]
    if models := _model_lines(rows):
        lines += ["", *models]
    if troubles := [f"{r.program} {r.address}: {r.trouble}" for r in look.replicas if r.trouble]:
        lines += ["", *troubles]
    return "\n".join(lines)


def as_json(look: Look, before: Look | None) -> str:
    """Return the same as one JSON object; figures that are not known are null."""
    replicas = [
        {
            "program": row.replica.program,
            "address": row.replica.address,
            "state": row.replica.state,
            "trouble": row.replica.trouble,
            "figures": row.figures and asdict(row.figures),
        }
        for row in _rows(look, before)
    ]
    over_s = round(look.at_s - before.at_s, 3) if before else None
    content = {"is_healthy": look.is_healthy, "over_s": over_s, "replicas": replicas}
    return json.dumps({**content, "store": [asdict(node) for node in look.store]}, indent=2)


def _rows(look: Look, before: Look | None) -> list[_Row]:
    then = {(r.program, r.address): r.metrics for r in before.replicas} if before else {}
    return [
        _Row(r, figures(r.metrics.since(then.get((r.program, r.address))), look.at_s) if r.metrics else None)
        for r in look.replicas
    ]


def _cells(row: _Row, over_s: float | None) -> tuple[str, ...]:
    replica, known = row.replica, row.figures
    first = (replica.program, replica.address, replica.state)
    if known is None:
        return (*first, *[_NONE] * (len(_HEAD) - len(first)))
    return (
        *first,
        _duration(known.up_s),
        known.version,
        _running(known, known.running.keys() - {"live"}),
        _running(known, known.running.keys() & {"live"}),
        _queue(known),
        _errors(known, over_s),
    )


def _running(known: Figures, kinds: Set[str]) -> str:
    """Say how many requests of these kinds run, of how many that may."""
    if not kinds:
        return _NONE
    count, limit = (sum(of.get(kind, 0) for kind in kinds) for of in (known.running, known.limits))
    return f"{count}/{limit}" if limit else f"{count}"


def _queue(known: Figures) -> str:
    """Say how much waits, and for how long the kind of work that waits longest."""
    if not known.queues:
        return _NONE
    length = sum(queue.length for queue in known.queues.values())
    waits = [queue.wait_p95_s for queue in known.queues.values() if queue.wait_p95_s is not None]
    return f"{length}, p95 {max(waits):.2f} s" if waits else f"{length}"


def _errors(known: Figures, over_s: float | None) -> str:
    if not known.requests:
        return "none asked"
    asked = f"{known.requests:.0f}" if over_s is None else f"{known.requests / over_s:.1f}/s"
    return f"{known.faults / known.requests:.1%} of {asked}"


def _store_line(node: StoreNode) -> str:
    if node.ping_ms is None:
        return f"store {node.address}: down"
    known = [f"answers in {node.ping_ms:.1f} ms", f"version {node.version}"]
    if node.up_s is not None:
        known.append(f"up {_duration(node.up_s)}")
    if node.memory_bytes is not None:
        known.append(f"{node.memory_bytes / _MIB:.1f} MiB")
    if node.clients is not None:
        known.append(f"{node.clients} clients")
    return f"store {node.address}: {', '.join(known)}"


def _model_lines(rows: Sequence[_Row]) -> list[str]:
    """Return which models each program wants, on what, and how many of its replicas have them."""
    lines = []
    for program, group in groupby(rows, lambda row: row.replica.program):
        models = [model for row in group if row.figures for model in row.figures.models]
        for model_id, device in sorted({(model.id, model.device) for model in models}):
            same = [model.is_loaded for model in models if (model.id, model.device) == (model_id, device)]
            lines.append(f"{program} has {model_id} on {device}: loaded by {sum(same)} of {len(same)}")
    return lines


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
