"""Which engine answers a request, and what its caller should know about that."""

from dataclasses import dataclass

from services.diarize.engine import Caveat, Engine
from services.diarize.loading import Loading


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine that answers."""

    engine: Engine
    caveats: tuple[Caveat, ...] = ()


class Engines:
    """The embedded engine, which takes any number of speakers, and perhaps one that goes before it once it is loaded.

    That one tells at most `max_speakers` apart.
    """

    def __init__(self, embedded: Engine, loading: Loading | None = None, max_speakers: int = 0) -> None:
        self._embedded = embedded
        self._loading = loading
        self._max_speakers = max_speakers

    @property
    def is_alive(self) -> bool:
        """Whether nothing failed that only a restart mends."""
        return self._loading is None or not self._loading.is_lost

    def choose(self, speakers: int, *, is_live: bool = False) -> Choice:
        """Return the engine for a request for so many speakers, 0 for any number."""
        loading, embedded = self._loading, self._embedded
        if loading is None:
            return Choice(embedded)
        if speakers > self._max_speakers:
            message = (
                f"{loading.model_id} tells {self._max_speakers} speakers apart at most; "
                f"{embedded.model_id} answered, since {speakers} were asked for."
            )
            return Choice(embedded, (Caveat("MANY_SPEAKERS", message),))
        if loading.engine is None or loading.is_lost:
            return Choice(embedded, (Caveat("FALLBACK_MODEL", f"{loading.problem} {embedded.model_id} answered."),))
        return Choice(embedded if is_live and not loading.engine.is_live else loading.engine)
