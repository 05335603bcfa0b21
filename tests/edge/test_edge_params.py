"""The parameters of a transcription, as text says them."""

import pytest

from services.common.errors import Reason, SttError
from services.edge.params import NAMES, LiveParams, TranscribeParams, gather, parse, parse_live

MODELS = ["large-v3-turbo", "small", "tiny"]


def test_defaults_are_the_contracts() -> None:
    assert parse({}, MODELS) == TranscribeParams(
        model="", language="auto", diarize=True, speakers=0, response_format="json"
    )


def test_an_empty_field_is_its_default() -> None:
    assert parse(dict.fromkeys(NAMES, " "), MODELS) == parse({}, MODELS)


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


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("prompt", "x" * 10_000, "10,000 characters: use at most 4,096"),
        ("prompt", "a bell\x07", "control characters"),
        ("keywords", ",".join(map(str, range(500))), "500 entries: use at most 100"),
        ("keywords", "fine," + "x" * 101, "at most 100 characters"),
        ("keywords", "fine,a\x1b[31m", "without control characters"),
        ("keywords", "two\nlines", "without control characters"),
        ("task", "summarize", "transcribe, translate"),
        ("languages", "en,klingon", "ISO 639-1"),
        ("languages", " , ", "leave it out"),
        ("languages", "auto", "leave it out"),
    ],
)
def test_what_biases_recognition_has_its_limits(name: str, value: str, says: str) -> None:
    with pytest.raises(SttError, match=says) as caught:
        parse({name: value}, MODELS)
    assert caught.value.reason is Reason.INVALID_REQUEST
    assert caught.value.message.isprintable()


def test_what_just_meets_the_limits_is_fine() -> None:
    wanted = parse({"prompt": "é\n" + "x" * 4_094, "keywords": ",".join(["x" * 100] * 100)}, MODELS)
    assert (len(wanted.prompt), len(wanted.keywords)) == (4_096, 100)


@pytest.mark.parametrize("order", [("language", "languages"), ("languages", "language")])
def test_the_language_must_be_among_the_languages(order: tuple[str, str]) -> None:
    given = {"language": "de", "languages": "en,es"}
    with pytest.raises(SttError, match="not among languages: en, es"):
        parse({name: given[name] for name in order}, MODELS)
    assert parse({"language": "es-MX", "languages": "en,es"}, MODELS).language == "es"
    assert parse({"languages": "EN,en-GB"}, MODELS).languages == ("en",)


def test_a_config_may_contradict_its_query() -> None:
    query = parse_live({"languages": "en,es"}, LiveParams(), MODELS)
    with pytest.raises(SttError, match="not among languages"):
        parse_live({"language": "de"}, query, MODELS)
    assert parse_live({"language": "de", "languages": ["de"]}, query, MODELS).languages == ("de",)


def test_a_list_that_is_repeated_goes_on_and_of_anything_else_the_last_counts() -> None:
    pairs = [("keywords", "a"), ("language", "de"), ("keywords", "b,c"), ("language", "en")]
    assert gather(pairs) == {"keywords": "a,b,c", "language": "en"}


def test_unknown_fields_are_named_short_few_and_printable() -> None:
    (warning,) = parse(dict.fromkeys(["\x1b[31m" + "x" * 1_000, *map(str, range(60)), "model"], ""), MODELS).warnings
    assert warning.startswith(r"Unknown fields were ignored: '\x1b[31mxx")
    assert warning.endswith(" '0', '1', '2', '3' and 56 more.")
    assert warning.isprintable()
    assert len(warning) < 200


def test_the_name_of_what_is_told_is_no_field() -> None:
    assert parse({"warnings": "x"}, MODELS).warnings == ("Unknown fields were ignored: 'warnings'.",)
