"""The parameters of a transcription, as text says them."""

import pytest

from services.common.errors import Reason, SttError
from services.edge.params import TranscribeParams, parse

MODELS = ["large-v3-turbo", "small", "tiny"]


def test_defaults_are_the_contracts() -> None:
    assert parse({}, MODELS) == TranscribeParams("large-v3-turbo", "auto", True, 0, "json")


def test_an_empty_field_is_its_default() -> None:
    names = ("model", "language", "diarize", "speakers", "response_format")
    assert parse(dict.fromkeys(names, " "), MODELS) == parse({}, MODELS)


@pytest.mark.parametrize("value", ["true", "TRUE", "1", "yes", "Yes", "false", "0", "no", "NO"])
def test_booleans_are_understood_in_any_case(value: str) -> None:
    assert parse({"diarize": value}, MODELS).diarize == (value.lower() in {"true", "1", "yes"})


@pytest.mark.parametrize(
    ("value", "code"), [("auto", "auto"), ("AUTO", "auto"), ("pt-BR", "pt"), ("zh_Hans_CN", "zh"), ("EN", "en")]
)
def test_languages_lose_case_and_region(value: str, code: str) -> None:
    assert parse({"language": value}, MODELS).language == code


@pytest.mark.parametrize(
    ("value", "means"),
    [("json", "json"), ("verbose_json", "json"), ("txt", "txt"), ("text", "txt"), ("SRT", "srt"), ("vtt", "vtt")],
)
def test_formats_have_synonyms(value: str, means: str) -> None:
    assert parse({"response_format": value}, MODELS).response_format == means


@pytest.mark.parametrize("value", ["0", "1", "20"])
def test_speakers_are_a_number(value: str) -> None:
    assert parse({"speakers": value}, MODELS).speakers == int(value)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("model", "gpt-5", "large-v3-turbo, small, tiny"),
        ("model", "Small", "large-v3-turbo, small, tiny"),
        ("language", "xx", "ISO 639-1"),
        ("language", "english", "ISO 639-1"),
        ("diarize", "maybe", "true, 1, yes"),
        ("speakers", "-1", "1 to 20"),
        ("speakers", "abc", "1 to 20"),
        ("speakers", "21", "1 to 20"),
        ("speakers", "99", "1 to 20"),
        ("speakers", "2.5", "1 to 20"),
        ("speakers", "٣", "1 to 20"),
        ("response_format", "xml", "json, txt, srt, vtt"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(name: str, value: str, says: str) -> None:
    with pytest.raises(SttError) as caught:
        parse({name: value}, MODELS)
    assert caught.value.reason in {Reason.INVALID_REQUEST, Reason.UNKNOWN_MODEL}
    assert name in caught.value.message
    assert says in caught.value.message


def test_what_a_caller_sent_is_repeated_short_and_printable() -> None:
    with pytest.raises(SttError) as caught:
        parse({"model": "\x1b[31m" + "x" * 1_000}, MODELS)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 200
