"""The parameters of a transcription, as text says them."""

import pytest

from services.common.errors import Reason, SttError
from services.common.languages import LANGUAGES
from services.edge.params import NAMES, LiveParams, TranscribeParams, gather, parse, parse_live

MODELS = ["large-v3-turbo", "small", "tiny"]


def test_defaults_are_the_contracts() -> None:
    assert parse({}, MODELS) == TranscribeParams(
        model="", language="auto", diarize=True, speakers=0, response_format="json"
    )


def test_an_empty_field_is_its_default() -> None:
    assert parse(dict.fromkeys(NAMES, " "), MODELS) == parse({}, MODELS)


@pytest.mark.parametrize("value", ["true", "TRUE", "1", "yes", "Yes", "on", "false", "0", "no", "NO", "Off"])
def test_booleans_are_understood_in_any_case(value: str) -> None:
    assert parse({"diarize": value}, MODELS).diarize == (value.lower() in {"true", "1", "yes", "on"})


@pytest.mark.parametrize(
    ("value", "code"), [("auto", "auto"), ("AUTO", "auto"), ("pt-BR", "pt"), ("zh_Hans_CN", "zh"), ("EN", "en")]
)
def test_languages_lose_case_and_region(value: str, code: str) -> None:
    assert parse({"language": value}, MODELS).language == code


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("no", ["nb", "nb-NO", "no", "NOR", "nob", "Norwegian", "Norwegian Bokmål"]),
        ("nn", ["nn", "nn_NO", "nno", "nynorsk", "Norwegian Nynorsk"]),
        ("jw", ["jv", "jw", "jav", "Javanese"]),
        ("he", ["iw", "he-IL", "heb"]),
        ("tl", ["fil", "fil-PH", "tl", "Filipino"]),
        ("id", ["in", "in_ID", "ind"]),
        ("de", ["deu", "ger", "German", "de-CH-1901"]),
        ("es", ["spa", "SPANISH", "Castilian", "es-419", "Spanish (Mexico)"]),
        ("zh", ["zh_TW", "zh-Hant-HK", "cmn", "chi", "Mandarin"]),
        ("en", ["eng", "en-US", "en_US.UTF-8"]),
        ("ht", ["Haitian Creole", "haitian", "hat"]),
        ("fa", ["per", "pes", "Farsi"]),
    ],
)
def test_a_language_has_many_names(code: str, names: list[str]) -> None:
    assert {name: parse({"language": name}, MODELS).language for name in names} == dict.fromkeys(names, code)
    assert parse({"languages": ",".join(names)}, MODELS).languages == (code,)
    assert parse_live({"languages": names}, LiveParams(), MODELS).languages == (code,)


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_is_known_by_its_code_and_its_english_name(code: str) -> None:
    assert [parse({"language": name}, MODELS).language for name in (code, LANGUAGES[code].upper())] == [code, code]


@pytest.mark.parametrize("name", ["yue", "zh-yue", "yue-Hant-HK", "Cantonese", "Chinese (Cantonese)"])
def test_cantonese_is_not_taken_for_chinese(name: str) -> None:
    with pytest.raises(SttError, match=r"Cantonese .* is no language of the models here; zh is Chinese"):
        parse({"language": name}, MODELS)


@pytest.mark.parametrize(
    "name", ["large-v3-turbo", "LARGE-V3-TURBO", "whisper-large-v3-turbo", "openai/whisper-large-v3-turbo", "turbo"]
)
def test_a_model_is_known_by_its_names_elsewhere(name: str) -> None:
    assert parse({"model": name}, MODELS).model == "large-v3-turbo"


def test_a_model_that_is_listed_in_other_letters_or_with_a_prefix_is_itself() -> None:
    models = ["small", "Whisper-Small"]
    assert parse({"model": "whisper-small"}, models).model == "Whisper-Small"
    assert parse({"model": "Systran/faster-whisper-small"}, models).model == "small"


def test_the_model_of_clients_made_for_openai_is_the_default() -> None:
    assert parse({"model": "whisper-1"}, MODELS).model == ""


@pytest.mark.parametrize("name", ["keywords", "languages"])
def test_an_empty_list_is_none(name: str) -> None:
    query = parse_live({name: "en,es"}, LiveParams(), MODELS)
    assert getattr(parse_live({name: []}, query, MODELS), name) == ()
    assert getattr(parse({name: " , "}, MODELS), name) == ()


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
        ("model", "whisper-medium", "large-v3-turbo, small, tiny"),
        ("language", "xx", "ISO 639-1"),
        ("language", "klingon", "ISO 639-1"),
        ("language", "in english", "ISO 639-1"),
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
