"""Where a track's audio stands in time: its frames' time stamps become pauses before them. Pure; no FFmpeg in here.

Time stamps err: they jitter, run backwards, jump by days. Sound is never dropped and never torn apart for them: a
stamp that is not where the audio so far ends counts only when the audio that follows agrees with it, and a pause that
is too long is not believed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

TOLERANCE_S = 0.1
"""A stamp this far off is jitter."""
CONFIRMED_S = 0.5
"""So much audio has to agree on a pause."""
MAX_OVERLAP_S = 1.0
"""Stamps this far back are audio that runs ahead of them, and a later pause makes up for it; others begin anew."""
MAX_PAUSE_S = 3600.0
"""A longer pause is not believed."""

Frame = TypeVar("Frame")


@dataclass
class Timeline(Generic[Frame]):
    """One track's time from the start of its file, as frames are placed on it; audio may reach to `limit_s`."""

    limit_s: float
    end_s: float = 0.0
    """Where the audio that was placed ends."""
    distrusted_s: list[float] = field(default_factory=list)
    """Where a pause was not believed."""
    is_doubtful: bool = False
    """Whether any stamp was not believed."""
    _shift_s: float = 0.0
    _held: list[tuple[Frame, float, float]] = field(default_factory=list)
    _held_s: float = 0.0

    def place(self, frame: Frame, at_s: float | None, length_s: float) -> Iterator[tuple[float, Frame]]:
        """Yield the frames whose place is known by now, each behind the seconds of silence before it.

        `at_s` is the frame's stamp, None without one.
        """
        off_s = self._off_s(at_s)
        if self._held and abs(off_s - self._held[0][1]) > TOLERANCE_S:
            self.is_doubtful = True
            yield from self.flush()
        if not self._held and -MAX_OVERLAP_S <= off_s <= TOLERANCE_S:
            self.end_s += length_s
            yield 0.0, frame
            return
        self._held.append((frame, off_s, length_s))
        self._held_s += length_s
        if self._held_s >= CONFIRMED_S:
            pause_s = self._pause_s(min(off for _, off, _ in self._held))
            self.end_s += pause_s
            for number, (_, waiting) in enumerate(self.flush()):
                yield (0.0 if number else pause_s), waiting

    def flush(self) -> Iterator[tuple[float, Frame]]:
        """Yield what waits for more audio to agree with it: without a pause."""
        held, self._held, self._held_s = self._held, [], 0.0
        self.end_s += sum(length_s for _, _, length_s in held)
        yield from ((0.0, frame) for frame, _, _ in held)

    def _off_s(self, at_s: float | None) -> float:
        if at_s is None:
            return self._held[0][1] if self._held else 0.0
        return at_s + self._shift_s - self.end_s - self._held_s

    def _pause_s(self, off_s: float) -> float:
        """Return the pause that makes up for stamps being off; where there is none to make, believe them from now."""
        if 0 <= off_s <= min(MAX_PAUSE_S, self.limit_s - self.end_s):
            return off_s
        self._shift_s -= off_s
        self.is_doubtful = True
        if off_s > 0:
            self.distrusted_s.append(self.end_s)
        return 0.0
