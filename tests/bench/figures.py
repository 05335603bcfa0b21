"""What a measurement is: a value, what it should be, and the engine-alone value of the same run beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Target:
    """A limit that a value must not exceed, or must reach."""

    limit: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Tell whether `value` is on target."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"


@dataclass(frozen=True)
class Figure:
    """One figure; `value` is None where it was not measured, and `note` then says why."""

    name: str
    value: float | None
    unit: str = ""
    target: Target | None = None
    alone: float | None = None
    note: str = ""

    @property
    def passed(self) -> bool | None:
        """Tell whether the target is met; None without a target or a value."""
        return self.target.met(self.value) if self.target and self.value is not None else None


@dataclass(frozen=True)
class Measured:
    """The figures of one group, and the series behind its plots by their names."""

    figures: Sequence[Figure]
    series: Mapping[str, Any] = field(default_factory=dict)
