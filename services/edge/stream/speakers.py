"""Who said what in a live session: finalized segments and diarization's updates in, what is to be told out. Pure.

A segment is told of when diarization has looked at all of it, and again whenever that turns out otherwise, until
diarization is done with its time. Speakers are numbered as they are first told of, and keep their number.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import inf

from services.edge.engine import Update
from services.edge.joining import speakers_of
from services.edge.transcript import Segment, Turn

MAX_OPEN_WORDS = 1_000
"""How much may still be told of, five minutes of speech or more; what is older stays as it was told."""
MAX_TURNS = 1_000


@dataclass(frozen=True, slots=True)
class Part:
    """A number of consecutive words of one speaker."""

    speaker: int
    words: int


@dataclass(frozen=True, slots=True)
class Named:
    """Who says the words of the segment `id`, in their order."""

    id: int
    parts: tuple[Part, ...]

    @property
    def speaker(self) -> int:
        """Return who says most of the words, the first of them where there are several."""
        words: Counter[int] = Counter()
        for part in self.parts:
            words[part.speaker] += part.words
        return words.most_common(1)[0][0]


class Speakers:
    """What of a session may still be told, or told otherwise; its memory does not grow with the session."""

    def __init__(self) -> None:
        self._open: dict[int, Segment] = {}
        self._told: dict[int, Named] = {}
        self._turns: list[Turn] = []
        self._since_s = self._until_s = 0.0
        self._numbers: dict[int, int] = {}

    @property
    def are_told(self) -> bool:
        """Whether anybody was told of."""
        return bool(self._numbers)

    def add(self, number: int, segment: Segment) -> None:
        """Take a segment by its id; segments come in the order of time, and one without words is nobody's."""
        if not segment.words:
            return
        self._open[number] = segment
        while len(self._open) > 1 and sum(len(s.words) for s in self._open.values()) > MAX_OPEN_WORDS:
            self._close(next(iter(self._open)))

    def update(self, update: Update) -> None:
        """Take what diarization knows now."""
        kept = [
            replace(turn, end_s=min(turn.end_s, update.since_s))
            for turn in self._turns
            if turn.start_s < update.since_s
        ]
        self._turns = [*kept, *update.turns][-MAX_TURNS:]
        self._since_s, self._until_s = update.since_s, update.until_s

    def finish(self) -> None:
        """Know that no update will come any more, because diarization has looked at everything."""
        self._since_s = self._until_s = inf

    def due(self, *, is_last: bool = False) -> list[Named]:
        """Return what is to be told now; at last also of segments that diarization has only begun to look at."""
        if not self._turns:
            return []
        heard = {
            number: segment
            for number, segment in self._open.items()
            if (segment.start_s < self._until_s if is_last else segment.end_s <= self._until_s)
        }
        due = []
        for number, speakers in zip(heard, speakers_of(heard.values(), self._turns), strict=True):
            named = Named(number, self._parts(speakers))
            if named != self._told.get(number):
                self._told[number] = named
                due.append(named)
            if heard[number].end_s <= self._since_s:
                self._close(number)
        return due

    def _parts(self, speakers: Sequence[int]) -> tuple[Part, ...]:
        runs = [(speaker, len(list(run))) for speaker, run in groupby(speakers)]
        return tuple(Part(self._numbers.setdefault(s, len(self._numbers) + 1), words) for s, words in runs)

    def _close(self, number: int) -> None:
        del self._open[number]
        self._told.pop(number, None)
