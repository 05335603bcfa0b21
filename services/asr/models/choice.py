"""Which model and language answer a request. Pure; which models are loaded is `keeper`'s business."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.asr.models.catalog import Model
from services.common.errors import Reason, SttError
from services.common.languages import LANGUAGES

AUTO = "auto"
_RETRY_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class Caveat:
    """What a caller should know about an answer that is given all the same."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The model that answers, the language it listens for, and what the caller should know about both.

    `language` is empty where the model is to find it out.
    """

    model: str
    language: str
    caveats: tuple[Caveat, ...]


def check(models: Mapping[str, Model], model: str, language: str) -> Model:
    """Return the model that was asked for.

    Raises SttError: INVALID_REQUEST, UNKNOWN_MODEL, UNSUPPORTED_LANGUAGE.
    """
    if not model:
        raise SttError(Reason.INVALID_REQUEST, "The config names no model.")
    if model not in models:
        raise SttError(Reason.UNKNOWN_MODEL, f"There is no model {_shown(model)}; there are: {', '.join(models)}.")
    if language not in ("", AUTO) and language not in LANGUAGES:
        raise SttError(
            Reason.INVALID_REQUEST, f"{_shown(language)} is not a language code that is known, such as en, or auto."
        )
    found = models[model]
    if not knows(found, language):
        raise SttError(Reason.UNSUPPORTED_LANGUAGE, f"{_named(language)} was asked for; {_knows(found)}")
    return found


def knows(model: Model, language: str) -> bool:
    """Return whether `model` can answer a request for `language`."""
    return language in ("", AUTO, *model.languages)


def choose(model: Model, language: str) -> Choice:
    """Return how `model` answers a request for `language`, which it knows."""
    return _listen(model, language, ())


def choose_instead(fallback: Model, asked: Model, language: str) -> Choice:
    """Return how `fallback` answers instead of a model that is not loaded. Raises SttError (LANGUAGE_UNAVAILABLE)."""
    if not knows(fallback, language):
        raise SttError(
            Reason.LANGUAGE_UNAVAILABLE,
            f"The model for {_named(language)} is not loaded here; {_knows(fallback)}",
            retry_after_s=_RETRY_AFTER_S,
        )
    message = f"The model {asked.id} is not loaded here; {fallback.id} answered."
    return _listen(fallback, language, (Caveat("FALLBACK_MODEL", message),))


def _listen(model: Model, language: str, caveats: tuple[Caveat, ...]) -> Choice:
    if language in model.languages:
        return Choice(model.id, language, caveats)
    if len(model.languages) > 1:
        return Choice(model.id, "", caveats)
    assumed = model.languages[0]
    message = f"{model.id} does not detect languages; {_named(assumed)} was assumed."
    return Choice(model.id, assumed, (*caveats, Caveat("LANGUAGE_ASSUMED", message)))


def _named(language: str) -> str:
    return LANGUAGES[language].capitalize()


def _knows(model: Model) -> str:
    return f"{model.id} knows only: {', '.join(model.languages)}."


def _shown(text: str) -> str:
    """Return a caller's text as it may stand in a message."""
    return repr(text if len(text) <= 40 else text[:40] + "...")
