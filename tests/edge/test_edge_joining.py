"""Words find their speakers."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.edge.joining import assign_speakers
from services.edge.transcript import Segment, Turn, Word


def said(start_s: float, text: str, word_s: float = 0.3, estimated: bool = False) -> Segment:
    """Words one after the other; a `|` is a second of silence, a `+` attaches a word to the one before it."""
    words = []
    at_s = start_s
    for token in text.split():
        if token == "|":
            at_s += 1.0
        else:
            confidence, attached = 0.5 + 0.1 * len(words), token.startswith("+")
            words.append(Word(token.removeprefix("+"), at_s, at_s + word_s, confidence, attached))
            at_s += word_s
    return Segment(start_s, words[-1].end_s, written(words), 0.77, tuple(words), estimated)


def written(words: Sequence[Word]) -> str:
    return "".join(w.text if w.attached else f" {w.text}" for w in words).strip()


def lines(segments: Sequence[Segment]) -> list[tuple[int | None, str]]:
    return [(s.speaker, s.text) for s in segments]


def test_a_segment_in_one_turn_keeps_its_words_and_confidence() -> None:
    segment = said(1.0, "To be or not.")
    (joined,) = assign_speakers([segment], [Turn(0.5, 4.0, 1)])
    assert joined.speaker == 1
    assert (joined.words, joined.confidence) == (segment.words, 0.77)


def test_a_segment_is_cut_where_the_speaker_changes() -> None:
    cut = assign_speakers([said(0.0, "How are you? I am well, thanks.")], [Turn(0.0, 0.9, 1), Turn(0.9, 3.0, 2)])
    assert lines(cut) == [(1, "How are you?"), (2, "I am well, thanks.")]
    assert (cut[0].start_s, cut[0].end_s) == (0.0, pytest.approx(0.9))
    assert cut[0].confidence == pytest.approx((0.5 + 0.6 + 0.7) / 3)


def test_a_cut_moves_to_the_end_of_the_sentence_nearby() -> None:
    cut = assign_speakers([said(0.0, "How are you? I am well.")], [Turn(0.0, 0.75, 1), Turn(0.75, 3.0, 2)])
    assert lines(cut) == [(1, "How are you?"), (2, "I am well.")]


def test_a_cut_needs_no_sentence_end_where_the_turns_are_clear() -> None:
    words = "so then we went up the hill yes and down again as ever"
    cut = assign_speakers([said(0.0, words)], [Turn(0.0, 2.1, 1), Turn(2.1, 5.0, 2)])
    assert lines(cut) == [(1, "so then we went up the hill"), (2, "yes and down again as ever")]


@pytest.mark.parametrize("question", ["+你 +好 +吗？", "+「你 +好 +吗？」"])
def test_a_cut_leaves_a_text_without_spaces_as_it_was(question: str) -> None:
    segment = said(0.0, f"{question} +我 +很好， +谢谢。")
    cut = assign_speakers([segment], [Turn(0.0, 0.75, 1), Turn(0.75, 3.0, 2)])
    assert lines(cut) == [(1, written(segment.words[:3])), (2, "我很好，谢谢。")]
    assert "".join(s.text for s in cut) == segment.text


def test_a_sentence_is_not_torn_for_one_stray_word() -> None:
    turns = [Turn(0.0, 0.9, 1), Turn(0.9, 1.2, 2), Turn(1.2, 3.0, 1)]
    assert lines(assign_speakers([said(0.0, "this is one long sentence here")], turns)) == [
        (1, "this is one long sentence here")
    ]


def test_a_short_answer_between_two_sentences_keeps_its_speaker() -> None:
    turns = [Turn(0.0, 0.9, 1), Turn(0.9, 1.2, 2), Turn(1.2, 3.0, 1)]
    assert lines(assign_speakers([said(0.0, "Is that so? Yes. I see it now.")], turns)) == [
        (1, "Is that so?"),
        (2, "Yes."),
        (1, "I see it now."),
    ]


def test_a_whole_short_segment_keeps_its_speaker() -> None:
    segments = [said(0.0, "and then I"), said(1.0, "Yeah."), said(1.5, "went home")]
    turns = [Turn(0.0, 0.9, 1), Turn(1.0, 1.3, 2), Turn(1.5, 3.0, 1)]
    assert [s.speaker for s in assign_speakers(segments, turns)] == [1, 2, 1]


def test_a_word_in_no_turn_goes_to_the_nearest_one() -> None:
    segments = [said(0.0, "Early."), said(5.0, "Late.")]
    turns = [Turn(0.5, 1.0, 1), Turn(4.0, 4.8, 2)]
    assert [s.speaker for s in assign_speakers(segments, turns)] == [1, 2]


def test_in_overlapping_turns_a_sentence_stays_with_who_began_it() -> None:
    turns = [Turn(0.0, 1.5, 1), Turn(0.9, 3.0, 2)]
    cut = assign_speakers([said(0.0, "one two three four five. Six seven eight.")], turns)
    assert lines(cut) == [(1, "one two three four five."), (2, "Six seven eight.")]


def test_speakers_are_numbered_by_their_first_words_not_by_the_turns() -> None:
    turns = [Turn(0.0, 0.2, 1), Turn(1.0, 2.0, 7), Turn(3.0, 4.0, 2)]
    joined = assign_speakers([said(1.0, "First."), said(3.0, "Second."), said(1.1, "Again.")], turns)
    assert [s.speaker for s in joined] == [1, 2, 1]


def test_without_turns_nobody_is_named() -> None:
    segment = said(0.0, "Hello.", estimated=True)
    assert assign_speakers([segment], []) == [segment]


def test_an_aside_between_pauses_of_the_turns_keeps_its_speaker_though_the_words_times_close_them() -> None:
    turns = [Turn(0.0, 0.8, 1), Turn(0.95, 1.2, 2), Turn(1.4, 3.0, 1)]
    cut = assign_speakers([said(0.0, "this is one right long sentence here")], turns)
    assert lines(cut) == [(1, "this is one"), (2, "right"), (1, "long sentence here")]


def test_an_aside_said_into_somebodys_speech_keeps_its_speaker_if_it_is_a_sentence() -> None:
    turns = [Turn(0.0, 3.0, 1), Turn(0.9, 1.2, 2)]
    assert lines(assign_speakers([said(0.0, "I went home. Right. And slept well.")], turns)) == [
        (1, "I went home."),
        (2, "Right."),
        (1, "And slept well."),
    ]


def test_somebody_heard_through_a_sentence_gets_none_of_its_words() -> None:
    turns = [Turn(0.0, 3.0, 1), Turn(0.9, 1.2, 2)]
    assert len(assign_speakers([said(0.0, "I went home right and slept well.")], turns)) == 1


times = st.floats(0, 30).map(lambda t: round(t, 2))
tokens = st.lists(st.sampled_from(["Word.", "+字"]), min_size=1, max_size=12)


@st.composite
def talks(draw: st.DrawFn) -> tuple[list[Segment], list[Turn]]:
    """Segments of any words, and turns of up to four speakers, whatever they have to do with each other."""
    starts = draw(st.lists(st.tuples(times, tokens, st.booleans()), max_size=6))
    spans = draw(st.lists(st.tuples(times, st.floats(0.05, 5), st.integers(1, 4)), min_size=1, max_size=12))
    segments = [said(start, " ".join(texts), estimated=e) for start, texts, e in sorted(starts)]
    return segments, [Turn(start, start + length, speaker) for start, length, speaker in spans]


@given(talks())
def test_every_word_comes_out_once_in_its_place_with_a_speaker(talk: tuple[list[Segment], list[Turn]]) -> None:
    segments, turns = talk
    joined = assign_speakers(segments, turns)
    assert [w for s in joined for w in s.words] == [w for s in segments for w in s.words]
    assert all(s.text == written(s.words) for s in joined)
    assert all((s.start_s, s.end_s) == (s.words[0].start_s, s.words[-1].end_s) for s in joined)
    numbers = [s.speaker for s in joined]
    assert None not in numbers
    first_seen = list(dict.fromkeys(numbers))
    assert first_seen == list(range(1, len(first_seen) + 1))


@given(talks(), st.permutations([1, 2, 3, 4]))
def test_what_speakers_are_called_does_not_matter(talk: tuple[list[Segment], list[Turn]], names: list[int]) -> None:
    segments, turns = talk
    renamed = [replace(turn, speaker=names[turn.speaker - 1]) for turn in turns]
    assert assign_speakers(segments, renamed) == assign_speakers(segments, turns)


@st.composite
def sentences(draw: st.DrawFn) -> list[Segment]:
    """Sentences of 1.2 s and more by one speaker each, a quarter of a second apart."""
    found: list[Segment] = []
    for speaker in draw(st.lists(st.integers(1, 3), min_size=1, max_size=8)):
        text = " ".join(["so"] * draw(st.integers(3, 9)) + ["on."])
        start_s = found[-1].end_s + 0.25 if found else 1.0
        found.append(replace(said(start_s, text, draw(st.floats(0.3, 0.5))), speaker=speaker))
    return found


def in_one(segments: Sequence[Segment]) -> Segment:
    """Return the segment that recognition makes of them when it hears no end."""
    words = tuple(word for segment in segments for word in segment.words)
    return Segment(words[0].start_s, words[-1].end_s, written(words), 0.77, words)


def by_word(segments: Sequence[Segment]) -> list[int | None]:
    """Return the speaker of each word, numbered by first appearance."""
    numbers = list(dict.fromkeys(segment.speaker for segment in segments))
    return [numbers.index(segment.speaker) for segment in segments for _ in segment.words]


@given(sentences(), st.booleans(), st.data())
def test_borders_a_fifth_of_a_second_off_change_no_words_speaker(
    spoken: list[Segment], one: bool, data: st.DataObject
) -> None:
    off = st.floats(-0.2, 0.2)
    turns = [Turn(s.start_s + data.draw(off), s.end_s + data.draw(off), s.speaker or 0) for s in spoken]
    assert by_word(assign_speakers([in_one(spoken)] if one else spoken, turns)) == by_word(spoken)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 2), st.floats(0.3, 0.5), st.data())
def test_a_word_or_two_that_the_turns_set_apart_are_kept_whatever_stands_around(
    before: int, after: int, aside: int, word_s: float, data: st.DataObject
) -> None:
    segment = said(0.0, " ".join(["word"] * (before + aside + after)), word_s)
    start_s, end_s = before * word_s, (before + aside) * word_s
    off = st.floats(-0.07, 0.07)  # with more, a turn may cover less than half of its only word
    own = Turn(start_s + data.draw(off), end_s + data.draw(off), 2)
    turns = [Turn(0.0, own.start_s - 0.1, 1), own, Turn(own.end_s + 0.1, segment.end_s, 1)]
    kept = by_word(assign_speakers([segment], turns))
    assert kept == [0] * before + [1] * aside + [0] * after
