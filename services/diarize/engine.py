"""What the service asks of a diarization engine; how one does it stands in `engines/`."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from services.common.audio import Flush


@dataclass(frozen=True, slots=True)
class Turn:
    """Somebody's uninterrupted speech; `speaker` counts from 1 by first appearance."""

    start_s: float
    end_s: float
    speaker: int


@dataclass(frozen=True, slots=True)
class Update:
    """All turns between two seconds of a live session, as far as they are known now, in the order of their starts.

    They replace what was told from `since_s` on, which never falls; up to `until_s` everything was looked at. Who comes
    up for the first time has the next number, and keeps it.
    """

    since_s: float
    until_s: float
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Caveat:
    """Something the caller should know about the answer: a stable name in upper snake case and one sentence."""

    reason: str
    message: str


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

    @property
    def max_speakers(self) -> int:
        """How many speakers it can tell apart; 0 for any number."""
        ...

    @property
    def is_live(self) -> bool:
        """Whether it keeps up with live sessions."""
        ...

    @property
    def is_lost(self) -> bool:
        """Whether what it runs on failed for good, so that it answers nothing any more."""
        ...

    def open(self, speakers: int, expected_duration_s: float) -> Diarization:
        """Begin a recording: `speakers` to find and seconds that will come, each 0 when not known."""
        ...

    def listen(self, audio: AsyncIterator[bytes | Flush], speakers: int) -> AsyncGenerator[Update, None]:
        """Yield what is known of a live session while its audio comes, whole samples at a time, and at its end.

        A flush asks for an update on everything heard so far. Audio is not taken faster than it is dealt with.
        """
        ...
