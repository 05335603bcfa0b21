"""The catalog of models, and which of them answers a request.

Loading them is `__main__`'s business, running them the engines'.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from services.asr.engines import moonshine
from services.common.errors import Reason, SttError
from services.common.languages import LANGUAGES

AUTO = "auto"
_RETRY_AFTER_S = 60.0


class Speed(Enum):
    """How fast a model is beside the others."""

    STANDARD = auto()
    FAST = auto()
    VERY_FAST = auto()


@dataclass(frozen=True, slots=True)
class Model:
    """A model that callers may name."""

    id: str
    name: str
    languages: Sequence[str]
    speed: Speed
    description: str


_WHISPER = tuple(LANGUAGES)
CATALOG = (
    Model("large-v3-turbo", "Whisper Large V3 Turbo", _WHISPER, Speed.FAST, "Nearly as accurate as large-v3, faster."),
    Model("large-v3", "Whisper Large V3", _WHISPER, Speed.STANDARD, "The most accurate."),
    Model("medium", "Whisper Medium", _WHISPER, Speed.FAST, "A middle way between accuracy and size."),
    Model("small", "Whisper Small", _WHISPER, Speed.VERY_FAST, "Small and multilingual."),
    Model(moonshine.MODEL_ID, "Moonshine Tiny", ("en",), Speed.VERY_FAST, "English; comes with the software, on CPUs."),
)


@dataclass(frozen=True, slots=True)
class Caveat:
    """What a caller should know about an answer that is given all the same."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The loaded model that answers, the language it listens for, and what the caller should know about both."""

    model: str
    language: str
    caveats: tuple[Caveat, ...]


class Models:
    """Decides which model answers a request; `loaded` are the ids that can."""

    def __init__(self, loaded: Sequence[str], fallback: str) -> None:
        """Answer with `fallback`, a loaded model, for those that are not; with an error when it is empty."""
        self._known = {model.id: model for model in CATALOG}
        self._loaded = frozenset(loaded)
        self._fallback = fallback

    def available(self, model: str) -> bool:
        """Return whether a request that names `model` is answered by it."""
        return model in self._loaded

    def choose(self, model: str, language: str) -> Choice:
        """Return what answers a request for `model` and `language` (a code, or "auto", or empty for that).

        Raises SttError: INVALID_REQUEST, UNKNOWN_MODEL, MODEL_UNAVAILABLE, UNSUPPORTED_LANGUAGE, LANGUAGE_UNAVAILABLE.
        """
        if not model:
            raise SttError(Reason.INVALID_REQUEST, "The config names no model.")
        if model not in self._known:
            raise SttError(
                Reason.UNKNOWN_MODEL, f"There is no model {_shown(model)}; there are: {', '.join(self._known)}."
            )
        if language not in ("", AUTO) and language not in LANGUAGES:
            raise SttError(
                Reason.INVALID_REQUEST, f"{_shown(language)} is not a language code that is known, such as en, or auto."
            )
        if model in self._loaded:
            return self._listen(self._known[model], language, ())
        if not self._fallback:
            raise SttError(
                Reason.MODEL_UNAVAILABLE, f"The model {model} is not loaded here.", retry_after_s=_RETRY_AFTER_S
            )
        message = f"The model {model} is not loaded here; {self._fallback} answered."
        return self._listen(self._known[self._fallback], language, (Caveat("FALLBACK_MODEL", message),))

    def _listen(self, model: Model, language: str, caveats: tuple[Caveat, ...]) -> Choice:
        if language in model.languages:
            return Choice(model.id, language, caveats)
        if language in ("", AUTO):
            assumed = model.languages[0]
            message = f"{model.id} does not detect languages; {LANGUAGES[assumed].capitalize()} was assumed."
            return Choice(model.id, assumed, (*caveats, Caveat("LANGUAGE_ASSUMED", message)))
        knows = f"{model.id} knows only: {', '.join(model.languages)}."
        if caveats:
            raise SttError(
                Reason.LANGUAGE_UNAVAILABLE,
                f"The model for {LANGUAGES[language].capitalize()} is not loaded here; {knows}",
                retry_after_s=_RETRY_AFTER_S,
            )
        raise SttError(Reason.UNSUPPORTED_LANGUAGE, f"{LANGUAGES[language].capitalize()} was asked for; {knows}")


def _shown(text: str) -> str:
    """Return a caller's text as it may stand in a message."""
    return repr(text if len(text) <= 40 else text[:40] + "...")
