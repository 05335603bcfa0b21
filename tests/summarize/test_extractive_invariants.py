"""What holds for the summary of any text whatever."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.summarize.engine import Delta, Style
from services.summarize.engines.extractive.cleaning import clean, clip
from services.summarize.engines.extractive.engine import ExtractiveEngine
from services.summarize.engines.extractive.sentences import split_sentences

SPOKEN_WORDS = """
    I you we um uh the the report, will send by Friday. 10 p.m. Mr. Speaker 1: Anna: - I'll can could you know please?
    let's okay so because data data; 今天开会。 पैसा। budget launch phone tomorrow! not don't e.g. 3.5 a.m.
"""
SPOKEN = st.lists(st.sampled_from([*SPOKEN_WORDS.split(), "\n", "\n\n"]), max_size=120).map(" ".join)
ENDLESS = st.lists(st.text(st.characters(categories=["L", "Mn", "Nd"]), min_size=1), min_size=40, max_size=90).map(
    " ".join
)
ANY_TEXT = st.one_of(st.text(max_size=400), SPOKEN, ENDLESS).filter(lambda text: any(char.isalnum() for char in text))
on_any_machine = settings(deadline=None, max_examples=40)
MAX_CHARS = {
    Style.BRIEF: 3 * 322,
    Style.DETAILED: 6 * 4 * 324,
    Style.BULLET_POINTS: 8 * 164,
    Style.HEADLINE: 100,
}


def summarize(text: str, style: Style) -> str:
    async def collect() -> str:
        with ThreadPoolExecutor(1) as executor:
            events = ExtractiveEngine(executor).summarize(text, style)
            return "".join([event.text async for event in events if isinstance(event, Delta)])

    return asyncio.run(collect())


def letters(text: str) -> str:
    return "".join(char for char in text.upper() if char.isalnum())


def is_within(part: str, whole: str) -> bool:
    """Tell whether the characters of `part` stand in `whole` in that order, with or without others between."""
    rest = iter(whole)
    return all(char in rest for char in part)


@pytest.mark.parametrize("style", list(MAX_CHARS))
@on_any_machine
@given(text=ANY_TEXT)
def test_any_text_has_a_summary_of_bounded_length(style: Style, text: str) -> None:
    assert 0 < len(summarize(text, style)) <= MAX_CHARS[style]


@on_any_machine
@given(text=ANY_TEXT)
def test_any_text_has_action_items_or_a_sentence_that_there_are_none(text: str) -> None:
    summary = summarize(text, Style.ACTION_ITEMS)
    assert summary == "No action items were found." or all(line.startswith("- ") for line in summary.split("\n"))


@pytest.mark.parametrize("style", [Style.BRIEF, Style.DETAILED, Style.BULLET_POINTS])
@on_any_machine
@given(text=ANY_TEXT)
def test_a_summary_says_only_what_the_text_says_in_its_order(style: Style, text: str) -> None:
    assert is_within(letters(summarize(text, style)), letters(text))


@on_any_machine
@given(text=ANY_TEXT)
def test_a_headline_is_one_line_of_the_text(text: str) -> None:
    summary = summarize(text, Style.HEADLINE)
    assert summary.splitlines() == [summary]
    assert is_within(letters(summary), letters(text))


@on_any_machine
@given(text=ANY_TEXT)
def test_splitting_loses_no_letter(text: str) -> None:
    assert letters("".join(split_sentences(text))) == letters(text)


@on_any_machine
@given(text=ANY_TEXT)
def test_sentences_are_of_bounded_length_and_not_empty(text: str) -> None:
    assert all(sentence.strip() and len(sentence) <= 330 for sentence in split_sentences(text))


@on_any_machine
@given(text=ANY_TEXT)
def test_cleaning_only_takes_away(text: str) -> None:
    assert is_within(letters(clean(text)), letters(text))


@on_any_machine
@given(text=st.text(), max_chars=st.integers(2, 50))
def test_a_clipped_text_fits(text: str, max_chars: int) -> None:
    assert len(clip(text, max_chars)) <= max_chars


@pytest.mark.parametrize(
    ("said", "cleaned"),
    [
        ("um, so the the report uh is is late.", "So the report is late."),
        ("We, you know, lost the client.", "We, lost the client."),
        ("Do you know what I mean?", "Do you know what I mean?"),
        ("I think I think we should go.", "I think we should go."),
        ("Call five five five one two one two.", "Call five five five one two one two."),
        ("The th- the third one.", "The third one."),
        ("He had had enough.", "He had had enough."),
        ("I I I don't know.", "I don't know."),
        ("It's a well-known five- to six-year plan.", "It's a well-known five- to six-year plan."),
        ("Um. Uh, hmm.", ""),
    ],
)
def test_what_speech_leaves_behind_is_cleaned_away(said: str, cleaned: str) -> None:
    assert clean(said) == cleaned


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. Smith came at 5 p.m. on Monday. He left.", ["Dr. Smith came at 5 p.m. on Monday.", "He left."]),
        ("It costs 3.5 dollars! Really?", ["It costs 3.5 dollars!", "Really?"]),
        ("今天开会。明天呢？好", ["今天开会。", "明天呢？", "好"]),
        ('"Stop." she said. "Go!"', ['"Stop."', "she said.", '"Go!"']),
        ("The author is J. K. Rowling. I agree.", ["The author is J. K. Rowling.", "I agree."]),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text: str, sentences: list[str]) -> None:
    assert list(split_sentences(text)) == sentences
