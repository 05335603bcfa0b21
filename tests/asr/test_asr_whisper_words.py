"""Tokens become words, and words have their places: what must hold for any text and any attention."""

import asyncio
from functools import cache
from itertools import pairwise

import pytest
from faster_whisper.tokenizer import Tokenizer
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Pieces

from services.asr.engine import Hypothesis, SpokenWord, join
from services.asr.engines.whisper_words import ALIGNMENT_FRAME, Span, cut
from services.asr.language import SpokenLanguages
from services.asr.models import wheels
from services.asr.timing import within_speech


@cache
def pieces() -> Pieces:
    return Pieces.from_buffer(wheels.read()["tokenizer.json"])


def words_of(text: str, language: str) -> tuple[tuple[SpokenWord, ...], tuple[Span, ...]]:
    """The words of a text of which each token was said in a frame of its own."""
    tokenizer = Tokenizer(pieces(), True, "transcribe", language)
    tokens = tokenizer.encode(text)
    return cut(tokenizer, tokens, [0.5] * len(tokens), [(place, place) for place in range(len(tokens) + 1)])


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", " Don't stop: it's 3.5 (three and a half) miles, Mr. Smith!"),
        ("de", " Fünf Äpfel, »bitte« - und schöne Grüße."),
        ("zh", "我用 Python 写程序，你呢？"),
        ("ja", "今日は Tokyo に行きます。"),
        ("th", "สวัสดีครับ"),
        ("ru", " Да, конечно."),
    ],
)
def test_words_joined_are_the_text(language: str, text: str) -> None:
    words, _ = words_of(text, language)
    assert join(words) == text.strip()
    assert len(words) > 1


def test_words_of_scripts_without_spaces_are_attached_and_others_are_not() -> None:
    assert all(word.attached for word in words_of("你好吗", "zh")[0])
    assert not any(word.attached for word in words_of(" how are you", "en")[0])


def test_marks_belong_to_the_words_they_stand_at() -> None:
    assert [word.text for word in words_of(' "Yes," he said.', "en")[0]] == ['"Yes,"', "he", "said."]


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" "), max_size=40),
    st.sampled_from(["en", "zh", "ru"]),
)
def test_no_letter_is_lost_and_every_word_has_a_place(text: str, language: str) -> None:
    words, spans = words_of(text, language)
    assert join(words).replace(" ", "") == text.replace(" ", "")
    assert len(words) == len(spans)
    assert all(0 <= start <= end for start, end in spans)
    assert all(before[0] <= after[0] for before, after in pairwise(spans))


def test_a_word_lasts_from_its_first_token_to_the_next_words() -> None:
    _, spans = words_of(" how are", "en")
    assert spans == ((0, ALIGNMENT_FRAME), (ALIGNMENT_FRAME, 2 * ALIGNMENT_FRAME))


positions = st.lists(st.integers(0, 160_000), min_size=2, max_size=20).map(sorted)


@given(positions, positions)
def test_words_stay_in_order_and_out_of_pauses(voiced: list[int], borders: list[int]) -> None:
    runs = tuple((start, end) for start, end in zip(voiced[::2], voiced[1::2], strict=False) if end > start)
    placed = within_speech(list(pairwise(borders)), runs)
    assert all(start <= end for start, end in placed)
    assert all(before[1] <= after[0] for before, after in pairwise(placed))
    for start, end in placed:
        pauses = [(a, b) for (_, a), (b, _) in pairwise(runs) if b - a >= 3_200]
        if any(start < b and end > a for a, b in runs):
            assert not any(start < a and b < end for a, b in pauses)


def heard(language: str, certainty: float) -> Hypothesis:
    return Hypothesis((SpokenWord("word", (-0.1,)),), language=language, certainty=certainty)


async def told(*pieces: tuple[str, float, float], given: str = "") -> list[str]:
    """The languages of pieces that are heard one after the other: the likeliest, its certainty, seconds of voice."""
    languages = SpokenLanguages(given)
    return [await languages.turn(voiced_s).settle(heard(code, certainty)) for code, certainty, voiced_s in pieces]


async def test_a_language_that_was_asked_for_stays() -> None:
    assert await told(("en", 0.99, 9.0), given="de") == ["de"]


async def test_a_sure_long_piece_changes_the_language_and_a_short_or_doubtful_one_does_not() -> None:
    pieces = ("en", 0.9, 5.0), ("es", 0.9, 0.5), ("es", 0.9, 1.5), ("es", 0.6, 9.0), ("es", 0.9, 3.0), ("en", 0.7, 2.0)
    assert await told(*pieces) == ["en", "en", "en", "en", "es", "es"]


async def test_a_short_piece_that_is_very_sure_changes_it() -> None:
    assert await told(("en", 0.9, 5.0), ("zh", 0.99, 1.2)) == ["en", "zh"]


async def test_while_nothing_is_sure_the_likeliest_so_far_is_taken() -> None:
    assert await told(("es", 0.3, 1.0), ("pt", 0.4, 1.0), ("es", 0.2, 1.0)) == ["es", "pt", "es"]


async def test_noise_tells_no_language() -> None:
    languages = SpokenLanguages("")
    await languages.turn(1.0).settle(Hypothesis((), language="pt", certainty=0.9))
    assert await languages.turn(1.0).settle(heard("en", 0.2)) == "en"
    assert languages.most_spoken == ""


async def test_the_language_of_the_answer_is_the_one_most_spoken() -> None:
    languages = SpokenLanguages("")
    for code, voiced_s in (("en", 3.0), ("es", 5.0), ("en", 4.0)):
        turn = languages.turn(voiced_s)
        turn.count(await turn.settle(heard(code, 0.99)))
    assert languages.most_spoken == "en"


async def test_a_piece_waits_for_those_before_it_and_one_that_fails_holds_nobody_up() -> None:
    languages = SpokenLanguages("")
    first, second, third = (languages.turn(5.0) for _ in range(3))
    doubtful = asyncio.ensure_future(third.settle(heard("en", 0.3)))
    second.end()
    assert await first.settle(heard("es", 0.9)) == "es"
    assert await doubtful == "es"
