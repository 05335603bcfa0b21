"""What to measure, and how much of it."""

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """The choices of one run."""

    quick: bool
    long: bool

    @property
    def repeats(self) -> int:
        """How often each timing is taken; the median counts."""
        return 1 if self.quick else 3

    @property
    def max_recording_s(self) -> float:
        """The longest recording whose time is taken."""
        return 120.0 if self.quick else 600.0

    @property
    def live_s(self) -> float:
        """How long live sessions last."""
        return 20.0 if self.quick else 60.0

    def say(self, what: str) -> None:
        """Tell the person who waits what is being measured."""
        print(what, file=sys.stderr, flush=True)
