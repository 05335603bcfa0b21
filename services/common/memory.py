"""How much memory the machine has left, and the control group (a container) that the program runs in."""

from pathlib import Path

_MIB = 1024 * 1024
# Kept to be read again, and given back when it is needed: MemAvailable holds it, too.
_FILES = ("active_file", "inactive_file")


def available_mib(meminfo: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")) -> float:
    """Return how much can be had without anything being swapped or killed; infinity where nothing tells."""
    return min(_left_to_machine_mib(meminfo), _left_to_group_mib(group))


def _left_to_machine_mib(meminfo: Path) -> float:
    try:
        return _fields(meminfo).get("MemAvailable:", float("inf")) / 1024
    except OSError:
        return float("inf")


def _left_to_group_mib(group: Path) -> float:
    try:
        limit, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        fields = _fields(group / "memory.stat")
    except OSError:
        return float("inf")
    if limit == "max":
        return float("inf")
    return (int(limit) - used + sum(fields.get(name, 0) for name in _FILES)) / _MIB


def _fields(path: Path) -> dict[str, float]:
    """Read lines of a name and a number."""
    words = [line.split() for line in path.read_text().splitlines()]
    return {each[0]: float(each[1]) for each in words if len(each) > 1}
