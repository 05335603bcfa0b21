"""Files that once came back wrong: what the service makes of each, beside what is right, for people to compare.

`BENCH_DATA` names their folder; each line of its `manifest.jsonl` has a `file` and says in words what is `right`.
"""

import json
from typing import Any

from tests.bench.data import BenchData
from tests.bench.figures import Figure, Measured
from tests.bench.plan import Plan
from tests.bench.system import System

_MODEL = "base"


def measure(system: System, plan: Plan, data: BenchData) -> Measured:
    """Send every case that is a file to the edge, and print the answers."""
    manifest = data.folder / "manifest.jsonl"
    cases = [json.loads(line) for line in manifest.read_text().splitlines()] if manifest.exists() else []
    files = [case for case in cases if "right" in case and not case["file"].startswith("(")]
    if not files:
        return Measured([Figure("cases answered", None, note="BENCH_DATA names no folder of cases")])
    answered = 0
    for case in files:
        try:
            body = system.transcribe((data.folder / case["file"]).read_bytes(), diarize=False, model=_MODEL).body
        except RuntimeError as error:
            said = str(error)
        else:
            answered += 1
            said = _shown(body)
        plan.say(f"{case['file']}\n  answer: {said}\n  right: {case['right']}")
    return Measured([Figure("cases answered", answered, f"of {len(files)}")])


def _shown(body: dict[str, Any]) -> str:
    segments = " ".join(
        f"[{segment['start']:.1f}-{segment['end']:.1f}] {segment['text']}" for segment in body["segments"]
    )
    warnings = "".join(f"\n    {warning}" for warning in body.get("warnings", ()))
    return f"{body['duration']:.1f} s, {body['language']}: {segments}{warnings}"
