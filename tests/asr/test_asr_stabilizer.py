"""Interim text: what two looks agreed on stays, the rest shows what is likely."""

import math

from hypothesis import given
from hypothesis import strategies as st

from services.asr.engine import SpokenWord
from services.asr.stabilizer import Interim, Stabilizer


def spoken(text: str, confidence: float = 0.9) -> list[SpokenWord]:
    return [SpokenWord(word, (math.log(confidence),)) for word in text.split()]


def shown(*looks: str) -> str:
    """The last look's text, a bar behind what is stable."""
    stabilizer = Stabilizer()
    interim = Interim("", 0)
    for look in looks:
        interim = stabilizer.look(spoken(look))
    return interim.text[: interim.stable_characters] + "|" + interim.text[interim.stable_characters :]


def test_words_become_stable_when_a_second_look_agrees() -> None:
    assert shown("it was") == "|it was"
    assert shown("it was", "it was the best") == "it was| the"
    assert shown("it was", "it was the best", "it was the best of times") == "it was the best| of"


def test_case_and_punctuation_are_no_disagreement() -> None:
    assert shown("Hope.", "hope, it is") == "hope,| it"


def test_a_word_that_is_still_being_said_is_only_shown_when_there_is_nothing_else() -> None:
    assert shown("winter") == "|winter"
    assert shown("winter", "wind of despair") == "|wind of"


def test_a_word_that_is_less_likely_right_than_wrong_is_not_shown() -> None:
    interim = Stabilizer().look([*spoken("so it"), *spoken("gablux", 0.4), *spoken("goes on")])
    assert interim == Interim("so it", 0)


def test_a_look_that_lost_or_found_a_word_among_the_agreed_repeats_and_skips_nothing() -> None:
    looks = ("about one book more", "about one book more or", "about book more or less than")
    assert shown(*looks) == "about one book more or| less"
    looks = ("about one book more", "about one book more or", "about one old book more or less than")
    assert shown(*looks) == "about one book more or| less"


def test_a_look_without_words_leaves_what_was_agreed() -> None:
    assert shown("it was", "it was the", "") == "it was|"


words = st.lists(st.sampled_from(["It", "it", "was", "was,", "the", "best", "worst", "-"]), max_size=8)


@given(st.lists(st.tuples(words, st.sampled_from([0.3, 0.9])), max_size=10))
def test_what_is_stable_stays_and_only_grows(looks: list[tuple[list[str], float]]) -> None:
    stabilizer = Stabilizer()
    stable = ""
    for heard, confidence in looks:
        interim = stabilizer.look(spoken(" ".join(heard), confidence))
        assert interim.text.startswith(stable)
        assert 0 <= interim.stable_characters <= len(interim.text)
        assert interim.stable_characters >= len(stable)
        stable = interim.text[: interim.stable_characters]
        rest = interim.text[interim.stable_characters :]
        assert not stable or not rest or rest.startswith(" ")
