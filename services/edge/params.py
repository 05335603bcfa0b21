"""The parameters of a transcription, read from text; a wrong one is a sentence that says which and what is allowed."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal, TypeVar

from services.common.errors import Reason, SttError
from services.edge.errors import invalid
from services.edge.languages import CANTONESE, language_code

ResponseFormat = Literal["json", "txt", "srt", "vtt"]
Task = Literal["transcribe", "translate"]
T = TypeVar("T")
P = TypeVar("P", bound="SpeechParams")

MAX_SPEAKERS = 20
MAX_PROMPT_CHARACTERS = 4_096
MAX_KEYWORDS = 100
MAX_KEYWORD_CHARACTERS = 100
MIN_ENDPOINT_MS, MAX_ENDPOINT_MS = 200, 3_000

_AUTO = "auto"
_FORMATS = {"json": "json", "txt": "txt", "srt": "srt", "vtt": "vtt", "text": "txt", "verbose_json": "json"}
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_TASKS = {"transcribe": "transcribe", "translate": "translate"}
_OPENAI_MODEL = "whisper-1"
"""The only one that clients made for OpenAI may know: it stands for the default."""
_WHISPER_NAMES = {"large": "large-v3", "turbo": "large-v3-turbo"}
_LISTS = frozenset({"keywords", "languages"})
_JSON_TYPES: dict[str, tuple[type, str]] = {
    "diarize": (bool, "true or false"),
    "speakers": (int, "a whole number"),
    "endpoint_silence_ms": (int, "a whole number"),
}
"""What a config of JSON may have for these, besides text; all others but the lists are text."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""What no text has: control characters, and halves of surrogate pairs."""
_TYPED = str.maketrans("\n\r\t", "   ")
"""Those that a text of several lines may have."""
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class SpeechParams:
    """What recognition is asked for; without a model it takes its default, `language` "auto" finds it out.

    `warnings` are what the caller should know of how they were read.
    """

    model: str = ""
    language: str = _AUTO
    prompt: str = ""
    keywords: tuple[str, ...] = ()
    task: Task = "transcribe"
    languages: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TranscribeParams(SpeechParams):
    """What to do with a recording; `speakers` 0 finds their number out."""

    diarize: bool = True
    speakers: int = 0
    response_format: ResponseFormat = "json"


@dataclass(frozen=True, slots=True)
class LiveParams(SpeechParams):
    """How to hear a live session; `speakers` as with a recording, `endpoint_silence_ms` 0 leaves it to recognition."""

    diarize: bool = False
    speakers: int = 0
    endpoint_silence_ms: int = 0


def _names(kind: type[SpeechParams]) -> frozenset[str]:
    return frozenset(field.name for field in fields(kind)) - {"warnings"}


NAMES = _names(TranscribeParams)
_LIVE_NAMES = _names(LiveParams)


def gather(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the fields of a form or a query by name: a list that is repeated goes on, else the last one counts."""
    gathered: dict[str, str] = {}
    for name, text in pairs:
        gathered[name] = f"{gathered[name]},{text}" if name in _LISTS and name in gathered else text
    return gathered


def parse(given: Mapping[str, str], models: Collection[str], *, is_whole: bool = True) -> TranscribeParams:
    """Read form fields by their names (`NAMES`); an absent or empty one is the default, an unknown one a warning.

    While the form is not whole, what only all fields together tell is not checked.
    """
    return _read(given, TranscribeParams(), NAMES, models, is_whole=is_whole)


def parse_live(given: Mapping[str, object], defaults: LiveParams, models: Collection[str]) -> LiveParams:
    """Read a query or a config of JSON; an absent or empty field is the default, an unknown one a warning."""
    return _read(given, defaults, _LIVE_NAMES, models)


def parse_language(text: str) -> str:
    """Return the code of a language by any name that callers have for it, or "auto"."""
    if text.lower() == _AUTO:
        return _AUTO
    code = language_code(text)
    if code == CANTONESE:
        raise invalid(f"Cantonese ({quoted(text)}) is no language of the models here; zh is Chinese.")
    if code is None:
        raise invalid(
            f"Unknown language {quoted(text)}: use an ISO 639-1 code such as en, es or pt-BR, or auto; "
            "GET /v1/languages lists them."
        )
    return code


def _read(
    given: Mapping[str, object], defaults: P, names: Collection[str], models: Collection[str], *, is_whole: bool = True
) -> P:
    read: dict[str, Any] = {}
    unknown = []
    for name, value in given.items():
        if name not in names:
            unknown.append(name)
        elif name in _LISTS:
            if (items := _items(name, value)) is not None:
                read[name] = _LIST_READERS[name](items) if items else ()
        elif text := _text(name, value):
            read[name] = _model(text, models) if name == "model" else _READERS[name](text)
    params = replace(defaults, **read, warnings=(*defaults.warnings, *_unknown(unknown)))
    if is_whole and params.languages and params.language not in (_AUTO, *params.languages):
        raise invalid(f"language is {params.language}, which is not among languages: {', '.join(params.languages)}.")
    return params


def _text(name: str, value: object) -> str:
    """Return a field of JSON as a form has it."""
    kind, description = _JSON_TYPES.get(name, (str, "a string"))
    if not isinstance(value, str | kind | None):
        raise invalid(f"{name} must be {description}.")
    return "" if value is None else str(value).strip()


def _items(name: str, value: object) -> list[str] | None:
    """Return what a list has, as JSON or with commas between; None where there is no list."""
    match value:
        case None:
            return None
        case str():
            items = value.split(",") if value.strip() else None
        case list() if all(isinstance(item, str) for item in value):
            items = value
        case _:
            raise invalid(f"{name} must be a list of strings, or a string with commas between them.")
    return None if items is None else [item.strip() for item in items if item.strip()]


def _unknown(names: Sequence[str]) -> Iterable[str]:
    if names:
        more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
        yield f"Unknown fields were ignored: {', '.join(map(quoted, names[:_MAX_NAMED]))}{more}."


def _model(text: str, models: Collection[str]) -> str:
    """Return the model that is named, in any case, as it is listed or as Whisper's own names and the hub's have it."""
    known = {model.lower(): model for model in models} | {_OPENAI_MODEL: ""}
    name = text.lower()
    short = name.rpartition("/")[2].removeprefix("faster-").removeprefix("whisper-")
    for candidate in (name, short, _WHISPER_NAMES.get(short, "")):
        if candidate in known:
            return known[candidate]
    raise SttError(Reason.UNKNOWN_MODEL, f"Unknown model {quoted(text)}: use one of {', '.join(models)}.")


def _prompt(text: str) -> str:
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise invalid(f"prompt has {len(text):,} characters: use at most {MAX_PROMPT_CHARACTERS:,}.")
    if _CONTROL.search(text.translate(_TYPED)):
        raise invalid("prompt has control characters: use text, with line breaks and tabs where needed.")
    return text


def _keywords(items: Sequence[str]) -> tuple[str, ...]:
    if len(items) > MAX_KEYWORDS:
        raise invalid(f"keywords has {len(items):,} entries: use at most {MAX_KEYWORDS}.")
    for item in items:
        if len(item) > MAX_KEYWORD_CHARACTERS:
            raise invalid(f"keywords has {quoted(item)}: use at most {MAX_KEYWORD_CHARACTERS} characters for each.")
        if _CONTROL.search(item):
            raise invalid(f"keywords has {quoted(item)}: use text without control characters.")
    return tuple(items)


def _languages(items: Sequence[str]) -> tuple[str, ...]:
    codes = tuple(dict.fromkeys(map(parse_language, items)))
    if _AUTO in codes:
        raise invalid("languages must name the languages to choose from, such as en,es; leave it out to allow all.")
    return codes


def _number(name: str, text: str, least: int, most: int, hint: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most):
        raise invalid(f"{name} is {quoted(text)}: use {hint}.")
    return int(text)


def _choice(name: str, choices: Mapping[str, T], text: str) -> T:
    if text.lower() not in choices:
        raise invalid(f"{name} is {quoted(text)}: use one of {', '.join(choices)}.")
    return choices[text.lower()]


def quoted(text: str) -> str:
    """Return what a caller sent in a form that is safe to repeat: short and printable."""
    return repr(text[:40] + ("…" if len(text) > 40 else ""))


_READERS: dict[str, Callable[[str], object]] = {
    "language": parse_language,
    "prompt": _prompt,
    "task": partial(_choice, "task", _TASKS),
    "diarize": partial(_choice, "diarize", _BOOLEANS),
    "speakers": lambda text: _number(
        "speakers", text, 0, MAX_SPEAKERS, f"0 to find the number out, or a number from 1 to {MAX_SPEAKERS}"
    ),
    "response_format": partial(_choice, "response_format", _FORMATS),
    "endpoint_silence_ms": lambda text: _number(
        "endpoint_silence_ms", text, MIN_ENDPOINT_MS, MAX_ENDPOINT_MS, f"{MIN_ENDPOINT_MS} to {MAX_ENDPOINT_MS:,}"
    ),
}
_LIST_READERS: dict[str, Callable[[Sequence[str]], object]] = {"keywords": _keywords, "languages": _languages}
