"""What every summary engine is to the rest of the service.

The styles, what an engine yields and its protocol belong here; how a summary is made belongs in `engines/`.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

NO_ACTION_ITEMS = "No action items were found."
"""The whole summary where nobody committed to anything."""


class Style(Enum):
    """The form of a summary."""

    BRIEF = "brief"
    DETAILED = "detailed"
    ACTION_ITEMS = "action_items"
    BULLET_POINTS = "bullet_points"
    HEADLINE = "headline"


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of a summary; all pieces joined, without anything in between, are the summary."""

    text: str


@dataclass(frozen=True, slots=True)
class Caveat:
    """Something the caller should know about the summary: a stable name in upper snake case and one sentence."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How many parts of a text too long for one pass are done, never falling, and how many there are (it may grow)."""

    parts_done: int
    parts: int


Event = Delta | Caveat | Progress


class UnavailableError(Exception):
    """An engine cannot be had now; the message is a sentence for callers."""


class Engine(Protocol):
    """Shortens transcripts."""

    @property
    def model(self) -> str:
        """Name the model that runs."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether it can answer now."""
        ...

    @property
    def is_alive(self) -> bool:
        """Whether nothing failed that only a restart of the program mends."""
        ...

    def summarize(self, text: str, style: Style) -> AsyncGenerator[Event, None]:
        """Yield the summary of a text that holds at least one visible character, and what is to be known about it.

        Closing the generator, or cancelling the task that reads it, lets the engine go at its next step. Raises
        SttError where there can be no summary.
        """
        ...
