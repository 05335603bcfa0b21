"""The parameters of a transcription, read from text; a wrong one is a sentence that says which and what is allowed."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

from services.common.errors import Reason, SttError
from services.common.languages import LANGUAGES
from services.edge.errors import invalid

ResponseFormat = Literal["json", "txt", "srt", "vtt"]
T = TypeVar("T")

MAX_SPEAKERS = 20
DEFAULT_MODEL = "large-v3-turbo"
DEFAULT_LANGUAGE = "auto"
NAMES = frozenset({"model", "language", "diarize", "speakers", "response_format"})

_FORMATS = {"json": "json", "txt": "txt", "srt": "srt", "vtt": "vtt", "text": "txt", "verbose_json": "json"}
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_LIVE_TYPES: dict[str, tuple[type, str]] = {
    "model": (str, "a string"),
    "language": (str, "a string"),
    "diarize": (bool, "true or false"),
    "speakers": (int, "a whole number"),
}
"""What a config of JSON may have for each, besides text."""


@dataclass(frozen=True, slots=True)
class TranscribeParams:
    """What to do with a recording; `speakers` 0 finds their number out, `language` may be "auto"."""

    model: str
    language: str
    diarize: bool
    speakers: int
    response_format: ResponseFormat


@dataclass(frozen=True, slots=True)
class LiveParams:
    """How to hear a live session; `speakers` and `language` as with a recording."""

    model: str
    language: str
    diarize: bool = False
    speakers: int = 0


def parse(fields: Mapping[str, str], models: Collection[str]) -> TranscribeParams:
    """Read form fields by their names (`NAMES`); an absent or empty one is the default."""
    return TranscribeParams(
        model=_model(_given(fields, "model") or DEFAULT_MODEL, models),
        language=parse_language(_given(fields, "language") or DEFAULT_LANGUAGE),
        diarize=_choice("diarize", _given(fields, "diarize") or "true", _BOOLEANS),
        speakers=_speakers(_given(fields, "speakers") or "0"),
        response_format=cast(
            ResponseFormat, _choice("response_format", _given(fields, "response_format") or "json", _FORMATS)
        ),
    )


def parse_live(fields: Mapping[str, object], defaults: LiveParams, models: Collection[str]) -> LiveParams:
    """Read a query or a config of JSON; an absent or empty field is the default."""
    texts = {name: _text(name, fields.get(name)) for name in _LIVE_TYPES}
    diarize, speakers = _given(texts, "diarize"), _given(texts, "speakers")
    return LiveParams(
        model=_model(_given(texts, "model") or defaults.model, models),
        language=parse_language(_given(texts, "language") or defaults.language),
        diarize=_choice("diarize", diarize, _BOOLEANS) if diarize else defaults.diarize,
        speakers=_speakers(speakers) if speakers else defaults.speakers,
    )


def parse_language(text: str) -> str:
    """Return the ISO 639-1 code, in lower case and without a region, or "auto"."""
    code = text.lower().replace("_", "-").partition("-")[0]
    if code != "auto" and code not in LANGUAGES:
        raise invalid(
            f"Unknown language {_quoted(text)}: use an ISO 639-1 code such as en, es or pt-BR, or auto; "
            "GET /v1/languages lists them."
        )
    return code


def _text(name: str, value: object) -> str:
    """Return a field of JSON as a query has it."""
    kind, description = _LIVE_TYPES[name]
    if not isinstance(value, str | kind | None):
        raise invalid(f"{name} must be {description}.")
    return "" if value is None else str(value)


def _given(fields: Mapping[str, str], name: str) -> str:
    return fields.get(name, "").strip()


def _model(text: str, models: Collection[str]) -> str:
    if text not in models:
        raise SttError(Reason.UNKNOWN_MODEL, f"Unknown model {_quoted(text)}: use one of {', '.join(models)}.")
    return text


def _speakers(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 2 and int(text) <= MAX_SPEAKERS):
        raise invalid(
            f"speakers is {_quoted(text)}: use 0 to find the number out, or a number from 1 to {MAX_SPEAKERS}."
        )
    return int(text)


def _choice(name: str, text: str, choices: Mapping[str, T]) -> T:
    if text.lower() not in choices:
        raise invalid(f"{name} is {_quoted(text)}: use one of {', '.join(choices)}.")
    return choices[text.lower()]


def _quoted(text: str) -> str:
    """Return what a caller sent in a form that is safe to repeat: short and printable."""
    return repr(text[:40] + ("…" if len(text) > 40 else ""))
