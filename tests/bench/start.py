"""Starting: the four programs to healthy, and with `--long` `make up` in a fresh clone, twice."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.figures import Figure, Measured, Target
from tests.bench.plan import Plan
from tests.bench.system import System, free_ports, port_settings

_FRESH_S, _AGAIN_S = 180.0, 15.0
_LIMIT_S = 900.0
_REPOSITORY = Path(__file__).resolve().parents[2]


def measure(system: System, plan: Plan) -> Measured:
    """Time the start of what runs now, and from a clone of the last commit with nothing installed."""
    figures = [Figure("programs started to healthy", system.start_s, "s")]
    if not plan.long:
        why = "not measured: only with --long"
        fresh = [("make up, fresh clone", _FRESH_S), ("make up, again", _AGAIN_S)]
        return Measured([*figures, *(Figure(name, None, "s", Target(limit), note=why) for name, limit in fresh)])
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "--quiet", str(_REPOSITORY), str(clone)], check=True, timeout=_LIMIT_S)
        # Neither this environment nor the make that started us may reach into the clone.
        foreign = ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")
        inherited = {name: value for name, value in os.environ.items() if name not in foreign}
        own = {"PIP_NO_CACHE_DIR": "1", "DATA_DIR": str(clone / ".data"), "REDIS_URL": ""}
        environment = inherited | port_settings(free_ports()) | own

        def make(target: str) -> None:
            command = ["make", target]
            subprocess.run(command, cwd=clone, env=environment, stdout=sys.stderr, check=True, timeout=_LIMIT_S)

        for name, limit in (("make up, fresh clone", _FRESH_S), ("make up, again", _AGAIN_S)):
            plan.say(f"start: {name}")
            started = time.monotonic()
            try:
                make("up")
                figures.append(Figure(name, time.monotonic() - started, "s", Target(limit), note="the last commit's"))
            finally:
                make("down")
    return Measured(figures)
