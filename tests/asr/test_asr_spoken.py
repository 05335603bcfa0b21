"""How written words are said, and how what was said is mapped back to what is written."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from num2words import num2words

from services.asr.phones import guess
from services.asr.spoken import match, slots

PHONE = re.compile("AA|AE|AH|AO|AW|AY|B|CH|D|DH|EH|ER|EY|F|G|HH|IH|IY|JH|K|L|M|N|NG|OW|OY|P|R|SH?|TH?|UH|UW|V|W|Y|ZH?")


def readings(written: str) -> set[str]:
    ways = {""}
    for slot in slots(written):
        ways = {f"{way} {' '.join(alternative)}".strip() for way in ways for alternative in slot}
    return ways


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("1984", "nineteen eighty four"),
        ("1984,", "one thousand nine hundred and eighty four"),
        ("1900", "nineteen hundred"),
        ("2005.", "two thousand five"),
        ("1980s", "nineteen eighties"),
        ("$5", "five dollars"),
        ("$5.50", "five dollars fifty cents"),
        ("$64", "sixty four"),
        ("3rd", "third"),
        ("21st", "twenty first"),
        ("7,0,9", "seven oh nine"),
        ("7,0,9", "seven zero nine"),
        ("5449-8839.", "five four four nine eight eight three nine"),
        ("50%", "fifty percent"),
        ("1,250", "one thousand two hundred fifty"),
        ("3.14", "three point one four"),
        ("3:05", "three oh five"),
        ("twenty-one", "twenty one"),
        ("Mr.", "mister"),
        ("BBC", "b b c"),
        ("U.S.", "u s"),
        ("R&B", "r and b"),
        ("don\u2019t", "don't"),
        ("caf\u00e9", "cafe"),
        ("\u2014", ""),
    ],
)
def test_a_written_word_can_be_said(written: str, said: str) -> None:
    assert said in readings(written)


@given(st.text(max_size=20))
def test_whatever_is_written_is_said_in_plain_words(written: str) -> None:
    for slot in slots(written):
        assert slot
        assert len(set(slot)) == len(slot)
        for alternative in slot:
            assert all(re.fullmatch("[a-z]+('[a-z]+)*", word) for word in alternative)


@given(st.integers(0, 10**15 - 1))
def test_every_number_can_be_counted_and_spelt(number: int) -> None:
    ways = readings(str(number))
    assert " ".join(re.findall("[a-z]+", num2words(number))) in ways
    assert " ".join(num2words(int(digit)) for digit in str(number)) in ways


words = st.sampled_from(
    ["1984", "$5.50", "3rd", "7,0,9", "5449-8839", "50%", "$64", "20", "0", "oh", "BBC", "100", "\u2014"]
)


@given(st.lists(words, max_size=8), st.data())
def test_what_was_said_is_mapped_back_to_what_is_written(written: list[str], data: st.DataObject) -> None:
    graph = [slot for word in written for slot in slots(word)]
    said = [word for slot in graph for word in data.draw(st.sampled_from(slot))]
    counts = match(said, graph)
    assert counts is not None
    assert sum(counts) == len(said)
    position = 0
    for slot, count in zip(graph, counts, strict=True):
        assert tuple(said[position : position + count]) in slot
        position += count


def test_what_is_not_a_way_through_is_not_mapped() -> None:
    graph = slots("1984")
    assert match(["nineteen", "eighty"], graph) is None
    assert match(["nineteen", "eighty", "four", "four"], graph) is None
    assert match([], []) == []


@given(st.from_regex("[a-z]+('[a-z]+)*", fullmatch=True))
def test_every_word_gets_a_pronunciation(word: str) -> None:
    phones = guess(word).split()
    assert phones
    assert all(PHONE.fullmatch(phone) for phone in phones)


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("station", "S T AE SH AH N"),
        ("phone", "F OW N"),
        ("better", "B EH T ER"),
        ("night", "N AY T"),
        ("quick", "K W IH K"),
        ("yes", "Y EH S"),
    ],
)
def test_common_spellings_sound_as_in_english(word: str, phones: str) -> None:
    assert guess(word) == phones
