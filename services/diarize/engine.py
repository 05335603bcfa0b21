"""What the service asks of a diarization engine; how one does it stands in `engines/`."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Turn:
    """Somebody's uninterrupted speech; `speaker` counts from 1 by first appearance."""

    start_s: float
    end_s: float
    speaker: int


class Diarization(Protocol):
    """One recording on its way through an engine; used by one task at a time."""

    @property
    def processed_s(self) -> float:
        """Seconds of audio that have been dealt with; never falls."""
        ...

    async def feed(self, pcm: bytes) -> None:
        """Take the next whole samples, waiting while the engine is behind."""
        ...

    async def finish(self) -> list[Turn]:
        """Work off what is left and return all turns, in the order of their starts."""
        ...

    def close(self) -> None:
        """Give up what has not begun; what runs ends within a window's work."""
        ...


class Engine(Protocol):
    """A loaded engine, shared by all requests."""

    @property
    def model_id(self) -> str:
        """Id of the model that runs."""
        ...

    def open(self, speakers: int, expected_duration_s: float) -> Diarization:
        """Begin a recording: `speakers` to find and seconds that will come, each 0 when not known."""
        ...
