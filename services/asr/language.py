"""Which language each piece of a recording or a live session is in: as was said, or as the pieces tell one by one.

A piece that tells its language surely is in it; one that does not, such as a name, is in that of the piece before.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass

from services.asr.engine import Hypothesis

# Whisper's own threshold for a recording. To leave a language that is known takes more, and more yet in a short piece.
_SURE = 0.5
_SURE_OF_CHANGE, _SURE_OF_SHORT_CHANGE = 0.8, 0.95
_LONG_S, _LEAST_CHANGE_S = 2.0, 1.0


@dataclass(frozen=True, slots=True)
class _Known:
    """What the pieces so far tell: the language, empty while none was sure, and what speaks for each until then."""

    code: str = ""
    likely: tuple[tuple[str, float], ...] = ()


class SpokenLanguages:
    """The languages of one recording or session; its pieces take their turns in the order of time."""

    def __init__(self, given: str) -> None:
        """Begin with the language that was asked for; empty to find it out piece by piece."""
        self.given = given
        self._before: asyncio.Future[_Known] = asyncio.get_running_loop().create_future()
        self._before.set_result(_Known())
        self._voiced_s: dict[str, float] = defaultdict(float)

    @property
    def most_spoken(self) -> str:
        """Return the language that was given, or that most of the words were said in; empty where there were none."""
        return self.given or max(self._voiced_s, key=self._voiced_s.__getitem__, default="")

    def turn(self, voiced_s: float) -> "Turn":
        """Give the next piece, with so much voice in it, its turn."""
        after: asyncio.Future[_Known] = asyncio.get_running_loop().create_future()
        turn = Turn(self, voiced_s, self._before, after)
        self._before = after
        return turn

    def count(self, code: str, voiced_s: float) -> None:
        """Take note of words said in a language."""
        self._voiced_s[code] += voiced_s


class Turn:
    """One piece's part in finding out what is spoken; to be ended, whatever becomes of the piece."""

    def __init__(
        self,
        languages: SpokenLanguages,
        voiced_s: float,
        before: "asyncio.Future[_Known]",
        after: "asyncio.Future[_Known]",
    ) -> None:
        self.given = languages.given
        self.voiced_s = voiced_s
        self._languages = languages
        self._before = before
        self._after = after

    async def settle(self, hypothesis: Hypothesis) -> str:
        """Return the language of a piece that an engine heard `hypothesis` in; waits for the pieces before it."""
        if self.given:
            return self.given
        before = await asyncio.shield(self._before)
        code = hypothesis.language
        if not hypothesis.words:
            known = before
            code = before.code or code
        elif before.code and code != before.code and not self._is_change(hypothesis):
            known, code = before, before.code
        elif before.code or hypothesis.certainty >= _SURE:
            known = _Known(code)
        else:
            likely = dict(before.likely)
            likely[code] = likely.get(code, 0.0) + hypothesis.certainty
            code = max(likely, key=likely.__getitem__)
            known = _Known("", tuple(likely.items()))
        if not self._after.done():
            self._after.set_result(known)
        return code

    def count(self, code: str) -> None:
        """Take note that the piece has words, in this language."""
        self._languages.count(code, self.voiced_s)

    def end(self) -> None:
        """Let the next piece have its turn, where this one did not settle."""
        if not self._after.done():
            self._before.add_done_callback(self._pass_on)

    def _pass_on(self, before: "asyncio.Future[_Known]") -> None:
        if not self._after.done():
            self._after.set_result(before.result())

    def _is_change(self, hypothesis: Hypothesis) -> bool:
        sure = _SURE_OF_CHANGE if self.voiced_s >= _LONG_S else _SURE_OF_SHORT_CHANGE
        return hypothesis.certainty >= sure and self.voiced_s >= _LEAST_CHANGE_S
