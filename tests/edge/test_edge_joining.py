"""Words find their speakers."""

from collections.abc import Sequence

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


times = st.floats(0, 30).map(lambda t: round(t, 2))
tokens = st.lists(st.sampled_from(["Word.", "+字"]), min_size=1, max_size=12)


@given(
    st.lists(st.tuples(times, tokens, st.booleans()), max_size=6),
    st.lists(st.tuples(times, st.floats(0.05, 5), st.integers(1, 4)), min_size=1, max_size=12),
)
def test_every_word_comes_out_once_in_its_place_with_a_speaker(
    starts: list[tuple[float, list[str], bool]], spans: list[tuple[float, float, int]]
) -> None:
    segments = [said(start, " ".join(texts), estimated=e) for start, texts, e in sorted(starts)]
    turns = [Turn(start, start + length, speaker) for start, length, speaker in spans]
    joined = assign_speakers(segments, turns)
    assert [w for s in joined for w in s.words] == [w for s in segments for w in s.words]
    assert all(s.text == written(s.words) for s in joined)
    assert all((s.start_s, s.end_s) == (s.words[0].start_s, s.words[-1].end_s) for s in joined)
    numbers = [s.speaker for s in joined]
    assert None not in numbers
    first_seen = list(dict.fromkeys(numbers))
    assert first_seen == list(range(1, len(first_seen) + 1))
