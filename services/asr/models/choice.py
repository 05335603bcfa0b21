"""Which model answers a request, and with what. Pure; which models are loaded is `keeper`'s business."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from services.asr.engine import Options
from services.asr.models.catalog import Model
from services.common.errors import Reason, SttError
from services.common.languages import LANGUAGES

DEFAULT = "large-v3-turbo"
"""Answers where no model is named and this one is served: the public contract's default."""
_RETRY_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class Caveat:
    """What a caller should know about an answer that is given all the same."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The model that answers, what its engine is asked for, and what the caller should know about both."""

    model: str
    options: Options
    caveats: tuple[Caveat, ...]


def check(models: Mapping[str, Model], model: str, options: Options) -> Model | None:
    """Return the model that was named, None where none was.

    Raises SttError: INVALID_REQUEST, UNKNOWN_MODEL, UNSUPPORTED_LANGUAGE.
    """
    for code in (options.language, *options.languages):
        if code and code not in LANGUAGES:
            raise SttError(
                Reason.INVALID_REQUEST, f"{_shown(code)} is not a language code that is known, such as en, or auto."
            )
    if options.language and options.languages and options.language not in options.languages:
        message = f"{_named(options.language)} was asked for, but languages allows only {', '.join(options.languages)}."
        raise SttError(Reason.INVALID_REQUEST, message)
    if not model:
        return None
    if model not in models:
        raise SttError(Reason.UNKNOWN_MODEL, f"There is no model {_shown(model)}; there are: {', '.join(models)}.")
    found = models[model]
    if not _knows(found, options):
        asked = ", ".join(map(_named, [options.language] if options.language else options.languages))
        raise SttError(Reason.UNSUPPORTED_LANGUAGE, f"{asked} was asked for; {_known(found)}")
    if options.translate and not found.translates:
        able = ", ".join(each.id for each in models.values() if each.translates)
        raise SttError(Reason.INVALID_REQUEST, f"{model} cannot translate; models that can: {able}.")
    return found


def suits(model: Model, options: Options) -> bool:
    """Return whether `model` can answer a request with such options."""
    return _knows(model, options) and (model.translates or not options.translate)


def preference(model: Model, options: Options, *, live_on_cpu: bool) -> tuple[bool, bool]:
    """Return what sorts models that may answer for one that is not loaded, the best first; their order does the rest.

    Where no language is named, those that find it out go first, and in live sessions on a CPU those that keep up.
    """
    finds_out = bool(options.language) or model.detects_languages
    return not finds_out, live_on_cpu and not model.keeps_up_live


def choose(model: Model, options: Options, instead_of: str = "") -> Choice:
    """Return how `model`, which suits, answers a request with such options; `instead_of` one that could have."""
    caveats = []
    if instead_of:
        message = f"The model {instead_of} is not loaded here; {model.id} answered."
        caveats.append(Caveat("FALLBACK_MODEL", message))
    if model.is_embedded and (options.prompt or options.keywords):
        given = " and ".join(name for name in ("prompt", "keywords") if getattr(options, name))
        caveats.append(Caveat("OPTION_IGNORED", f"{model.id} cannot use {given}."))
        options = replace(options, prompt="", keywords=())
    known = tuple(code for code in options.languages if code in model.languages)
    language = options.language
    if not language and not model.detects_languages:
        language = model.languages[0]
        message = f"{model.id} does not detect languages; {_named(language)} was assumed."
        caveats.append(Caveat("LANGUAGE_ASSUMED", message))
    return Choice(model.id, replace(options, language=language, languages=known), tuple(caveats))


def language_unavailable(options: Options, fallbacks: Sequence[Model]) -> SttError:
    """Return the error for a request that a model which is not loaded could answer, and none of `fallbacks` can."""
    languages = ", ".join(map(_named, [options.language] if options.language else options.languages))
    if options.translate:
        message = f"No model that translates{languages and f' from {languages}'} is loaded here."
    else:
        message = f"The model for {languages} is not loaded here; {' '.join(map(_known, fallbacks))}"
    return SttError(
        Reason.LANGUAGE_UNAVAILABLE,
        message,
        retry_after_s=_RETRY_AFTER_S,
    )


def _knows(model: Model, options: Options) -> bool:
    asked = [options.language] if options.language else options.languages
    return not asked or any(code in model.languages for code in asked)


def _named(language: str) -> str:
    return LANGUAGES[language].capitalize()


def _known(model: Model) -> str:
    return f"{model.id} knows only: {', '.join(model.languages)}."


def _shown(text: str) -> str:
    """Return a caller's text as it may stand in a message."""
    return repr(text if len(text) <= 40 else text[:40] + "...")
