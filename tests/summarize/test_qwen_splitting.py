"""Parts of a transcript: nothing is lost, none is too long, and turns stay whole where they can."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.summarize.engines.qwen.detokenizing import Detokenizer
from services.summarize.engines.qwen.splitting import line, split
from services.summarize.transcript import Turn, read_turns

LIMIT = 60
SPEAKERS = st.sampled_from([None, "Ann", "Speaker 2", "Émilie"])
SPOKEN = st.lists(
    st.sampled_from(["yes.", "the launch", "moves", "今天的会议讨论了价格。", "😀👍🏽", "no?", "a" * 90, "नहीं", "1.5"]),
    min_size=1,
    max_size=40,
).map(" ".join)  # fmt: skip
TURNS = st.lists(st.builds(Turn, SPEAKERS, SPOKEN), min_size=1, max_size=12)
on_any_machine = settings(deadline=None, max_examples=150)


def encode(texts: Sequence[str]) -> list[list[int]]:
    """Give a word one token for four bytes of it, as tokenizers do about; numbers that can be read back as text."""
    return [
        [int.from_bytes(b"\1" + word[at : at + 4]) for word in re.split(rb"(?= )|(?<=\n)", text.encode()) if word
         for at in range(0, len(word), 4)]
        for text in texts
    ]  # fmt: skip


def decode(tokens: Sequence[int]) -> str:
    return b"".join(token.to_bytes(5).lstrip(b"\0")[1:] for token in tokens).decode(errors="replace")


def spoken(parts: Sequence[Sequence[int]], turns: Sequence[Turn]) -> str:
    """Return what is said in parts, without line breaks and the labels that were repeated."""
    labels = tuple(f"{turn.speaker}:" for turn in turns if turn.speaker)
    lines = [each for part in parts for each in decode(part).split("\n") if each]
    unlabelled = (each.partition(":")[2] if each.startswith(labels) else each for each in lines)
    return "".join("".join(each.split()) for each in unlabelled)


@on_any_machine
@given(turns=TURNS)
@example(turns=[Turn("Ann", "word " * 2_000 + "end")])
@example(turns=[Turn(None, "今" * 1_000)])
def test_parts_lose_nothing_and_none_is_too_long(turns: list[Turn]) -> None:
    parts = split(turns, encode, LIMIT)
    assert all(0 < len(part) <= LIMIT for part in parts)
    assert spoken(parts, turns) == "".join("".join(turn.text.split()) for turn in turns)
    assert "\ufffd" not in "".join(map(decode, parts))


@on_any_machine
@given(turns=TURNS)
def test_what_fits_is_one_part_as_it_stands(turns: list[Turn]) -> None:
    parts = split(turns, encode, 100_000)
    assert [decode(part) for part in parts] == ["".join(map(line, turns))]


@on_any_machine
@given(turns=st.lists(st.builds(Turn, SPEAKERS, st.just("We talk about the launch.")), min_size=2, max_size=40))
def test_turns_that_fit_are_never_cut(turns: list[Turn]) -> None:
    parts = split(turns, encode, LIMIT)
    assert [each for part in parts for each in decode(part).splitlines(keepends=True)] == list(map(line, turns))


def test_a_long_turn_is_cut_between_sentences_and_each_piece_names_the_speaker() -> None:
    turn = Turn("Ann", " ".join(f"Sentence number {number} is said." for number in range(60)))
    lines = [each for part in split([turn], encode, LIMIT) for each in decode(part).splitlines()]
    assert len(lines) > 5
    assert all(re.fullmatch(r"Ann:( Sentence number \d+ is said\.)+", each) for each in lines)


def test_an_endless_sentence_is_cut_between_words() -> None:
    lines = [
        each for part in split([Turn(None, "launch " * 500 + "end")], encode, LIMIT) for each in decode(part).split()
    ]
    assert set(lines) == {"launch", "end"}


@pytest.mark.parametrize("text", ["launch " * 30_000, "今" * 200_000, "Ann: yes.\nBob: no.\n" * 20_000])
def test_no_text_is_tokenized_in_one_go(text: str) -> None:
    slices: list[int] = []

    def counted(texts: Sequence[str]) -> list[list[int]]:
        slices.append(len(texts))
        assert len(texts) <= 1_000
        assert all(len(each) <= 20_000 for each in texts)
        return encode(texts)

    assert split(read_turns(text), counted, 1_000)
    assert len(slices) > 3


@on_any_machine
@given(text=st.text(), raw=st.binary(max_size=60), data=st.data())
def test_pieces_of_characters_are_held_until_they_are_whole(text: str, raw: bytes, data: st.DataObject) -> None:
    """Tokens that are single bytes, valid or not, make the same text one by one as all at once."""

    def decode_bytes(tokens: Sequence[int]) -> str:
        return bytes(tokens).decode(errors="replace")

    tokens = list(data.draw(st.sampled_from([text.encode(), raw, text.encode() + raw])))
    detokenizer = Detokenizer(decode_bytes)
    deltas = [detokenizer.push([token]) for token in tokens]
    assert "".join(deltas) + detokenizer.end() == decode_bytes(tokens)
    if bytes(tokens) == text.encode() and "\ufffd" not in text:
        assert "\ufffd" not in "".join(deltas)
