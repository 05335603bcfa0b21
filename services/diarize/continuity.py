"""Keep speakers' numbers while their voices are grouped anew again and again; how they are grouped is not decided here.

A group gets the number it shares the most seconds with: seconds told before, and seconds of voices remembered from
longer ago.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from services.diarize.engine import Turn
from services.diarize.voices import Voice

_TICK_S = 0.05
"""How finely it is kept what was told of whom."""
_FADING = 0.5
"""What is left of a telling with each one after it: so who was taken for another and is told apart again is known."""

Floats = npt.NDArray[np.float64]


class Numbers:
    """The numbers that speakers were told by; at most `limit` of them, 0 for any number."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._since = self._ticks = 0
        self._told: dict[int, Floats] = {}

    def name(
        self, turns: Sequence[Turn], since_s: float, until_s: float, remembered: Mapping[tuple[int, int], float]
    ) -> dict[int, int]:
        """Return the number of each group: of those that have turns, and of those remembered.

        `turns` name groups for speakers, at any numbers, and lie between the two seconds, which never fall;
        `remembered` has the seconds of each number that are in each group now. Turns are told by what is returned.
        """
        self._move(since_s, until_s)
        tracks = {group: self._track(turns, group) for group in dict.fromkeys(turn.speaker for turn in turns)}
        numbers = self._known(tracks, remembered)
        for group in tracks:
            if group not in numbers:
                numbers[group] = self._next(set(numbers.values()))
        for group, track in tracks.items():
            told = self._told.setdefault(numbers[group], np.zeros(len(track)))
            told += track
        return numbers

    def _move(self, since_s: float, until_s: float) -> None:
        """Let what was told fade, and forget what can be corrected no more."""
        since, until = int(since_s / _TICK_S), int(until_s / _TICK_S) + 1
        for number, told in list(self._told.items()):
            kept = np.zeros(until - since)
            recent = told[since - self._since :] * _FADING
            kept[: len(recent)] = recent
            self._told[number] = kept
            if not kept.any():
                del self._told[number]
        self._since, self._ticks = since, until - since

    def _track(self, turns: Sequence[Turn], group: int) -> Floats:
        track = np.zeros(self._ticks)
        for turn in turns:
            if turn.speaker == group:
                start, end = (round(time_s / _TICK_S) - self._since for time_s in (turn.start_s, turn.end_s))
                # What is cut off at an end may be shorter than a tick.
                start = min(start, self._ticks - 1)
                track[start : max(end, start + 1)] = 1
        return track

    def _known(self, tracks: Mapping[int, Floats], remembered: Mapping[tuple[int, int], float]) -> dict[int, int]:
        """Give groups the numbers they share the most with, one to one."""
        rows = sorted({*self._told, *(number for number, _ in remembered)})
        columns = list(dict.fromkeys([*tracks, *(group for _, group in remembered)]))
        shared = np.array([[remembered.get((row, column), 0.0) for column in columns] for row in rows])
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                if row in self._told and column in tracks:
                    shared[i, j] += self._told[row] @ tracks[column] * _TICK_S
        if not shared.size:
            return {}
        pairs = zip(*linear_sum_assignment(shared, maximize=True), strict=True)
        return {columns[j]: rows[i] for i, j in pairs if shared[i, j] > 0}

    def _next(self, taken: set[int]) -> int:
        if self._limit and self._count >= self._limit:
            # They are all told: it is a speaker of whom nothing is left.
            return next(number for number in range(1, self._limit + 1) if number not in taken)
        self._count += 1
        return self._count


@dataclass(slots=True)
class Named:
    """A voice and the number it was told by at last, 0 where it was not told."""

    voice: Voice
    number: int = 0


class Memory:
    """Voices from longer ago than is corrected, at most `size`: whoever has the most gives up his shortest."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.voices: list[Named] = []

    def add(self, named: Named) -> None:
        """Remember a voice that was told."""
        self.voices.append(named)
        if len(self.voices) > self._size:
            ((most, _),) = Counter(each.number for each in self.voices).most_common(1)
            own = [index for index, each in enumerate(self.voices) if each.number == most]
            del self.voices[min(own, key=lambda index: self.voices[index].voice.speech_s)]
