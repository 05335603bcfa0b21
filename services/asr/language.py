"""Which language a recording or a live session is in: as was said, or as its first speech tells."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.asr.engine import Hypothesis

# Whisper's own threshold; a cough or a name tells less than a sentence does.
_SURE = 0.5
_MAX_LISTENINGS = 3


class SpokenLanguage:
    """The language of one recording or session; empty while it is not known."""

    def __init__(self, asked: str) -> None:
        """Begin with the language that was asked for; empty to find it out."""
        self.code = asked
        self._likely: dict[str, float] = defaultdict(float)
        self._listenings = 0
        self._turn = asyncio.Lock()

    @property
    def best(self) -> str:
        """Return the language, or the likeliest one so far; empty where nothing was said."""
        return self.code or max(self._likely, key=self._likely.__getitem__, default="")

    @asynccontextmanager
    async def known(self) -> AsyncIterator[str]:
        """Give the language to listen for; while it is not known, to one chunk after the other."""
        if not self.code:
            async with self._turn:
                if not self.code:
                    yield ""
                    return
        yield self.code

    def hear(self, hypothesis: Hypothesis) -> None:
        """Take note of what a chunk was taken for; what was no speech tells nothing."""
        if self.code or not hypothesis.words:
            return
        self._likely[hypothesis.language] += hypothesis.certainty
        self._listenings += 1
        if hypothesis.certainty >= _SURE or self._listenings >= _MAX_LISTENINGS:
            self.code = self.best
