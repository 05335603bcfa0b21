"""Where voice was heard that no word can have taken."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.asr.coverage import Gap, gaps, voice_within
from services.asr.engine import SpokenWord

SECOND = 16_000


def word(text: str) -> SpokenWord:
    return SpokenWord(text, (-0.1,))


def test_a_word_that_covers_seconds_of_voice_is_a_gap() -> None:
    words = [word("fine"), word("eight,"), word("the")]
    spans = [(0, SECOND // 2), (SECOND // 2, 7 * SECOND), (7 * SECOND, 8 * SECOND)]
    assert gaps(words, spans, [(0, 8 * SECOND)], 8 * SECOND) == [Gap(1, 2, SECOND // 2, 7 * SECOND)]


def test_silence_within_a_word_is_none() -> None:
    words, spans = [word("fine"), word("eight")], [(0, SECOND), (SECOND, 8 * SECOND)]
    assert gaps(words, spans, [(0, SECOND), (7 * SECOND, 8 * SECOND)], 8 * SECOND) == []


def test_voice_after_the_last_word_is_a_gap() -> None:
    assert gaps([word("yes")], [(0, SECOND)], [(0, 6 * SECOND)], 6 * SECOND) == [Gap(0, 1, 0, 6 * SECOND)]


def test_long_numbers_and_ideographs_take_their_time() -> None:
    assert gaps([word("1984")], [(0, 2 * SECOND)], [(0, 2 * SECOND)], 2 * SECOND) == []
    assert gaps([word("今天天氣")], [(0, 2 * SECOND)], [(0, 2 * SECOND)], 2 * SECOND) == []
    assert gaps([word("مرحبا")], [(0, 2 * SECOND)], [(0, 2 * SECOND)], 2 * SECOND) != []


def test_voice_without_any_word_is_one_gap() -> None:
    assert gaps([], [], [(0, SECOND)], 2 * SECOND) == [Gap(0, 0, 0, 2 * SECOND)]
    assert gaps([], [], [], 2 * SECOND) == []


lengths = st.lists(st.integers(1, 5 * SECOND), min_size=1, max_size=20)


@given(lengths, st.lists(st.booleans(), min_size=40, max_size=40))
def test_gaps_follow_each_other_and_hold_more_voice_than_their_words(steps: list[int], voice: list[bool]) -> None:
    edges = [sum(steps[:count]) for count in range(len(steps) + 1)]
    spans = list(pairwise(edges))
    voiced = [span for span, is_voice in zip(spans, voice, strict=False) if is_voice]
    found = gaps([word("word")] * len(spans), spans, voiced, edges[-1])
    assert all(gap.first < gap.last for gap in found)
    assert all(before.last < after.first for before, after in pairwise(found))
    for gap in found:
        assert voice_within(voiced, gap.start, gap.end) > (gap.last - gap.first) * SECOND
