"""The two dialects, without a wire."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.common.errors import SttError
from services.edge.engine import Partial
from services.edge.stream.dialects import (
    MAX_MESSAGE_BYTES,
    Control,
    Dialect,
    Documented,
    Sdk,
    encode,
    open_session,
    pieces,
)
from services.edge.transcript import Segment, Word

words = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Z"]), min_size=1, max_size=60), min_size=1, max_size=9
)
marked = st.lists(st.tuples(st.sampled_from(["字", "word"]), st.booleans()), min_size=1, max_size=9)


def segment_of(texts: list[str]) -> Segment:
    said = tuple(Word(text, float(i), i + 1.0, 0.5) for i, text in enumerate(texts))
    return Segment(0.0, float(len(said)), " ".join(texts), 0.5, said)


def written(tokens: list[tuple[str, bool]]) -> str:
    return "".join(text if attached else f" {text}" for text, attached in tokens).strip()


@settings(deadline=None, max_examples=25)
@example([["word"] * 9], 300, Documented)
@given(st.lists(words, max_size=2), st.integers(1, 300), st.sampled_from([Documented, Sdk]))
def test_a_segment_however_long_is_told_whole_and_in_order_in_messages_of_limited_size(
    said: list[list[str]], times: int, kind: type[Dialect]
) -> None:
    dialect = kind()
    segments = [segment_of(texts * times) for texts in said]
    messages = [dialect.transcript(piece) for segment in segments for piece in pieces(segment)]
    assert " ".join(m["text"] for m in messages) == " ".join(s.text for s in segments)
    assert [w["start"] for m in messages for w in m["words"]] == [w.start_s for s in segments for w in s.words]
    assert all(m["start"] == m["words"][0]["start"] and m["end"] == m["words"][-1]["end"] for m in messages)
    assert all(len(encode(m).encode()) <= MAX_MESSAGE_BYTES for m in messages)


@settings(deadline=None, max_examples=25)
@example([[("字", True)] * 9], 300)
@given(st.lists(marked, max_size=3), st.integers(1, 300))
def test_the_whole_text_has_the_spaces_its_words_say_however_a_segment_was_cut(
    said: list[list[tuple[str, bool]]], times: int
) -> None:
    dialect = Sdk()
    long = [tokens * times for tokens in said]
    for tokens in long:
        spoken = tuple(Word(text, i, i + 1, 0.5, attached) for i, (text, attached) in enumerate(tokens))
        for piece in pieces(Segment(0, len(spoken), written(tokens), 0.5, spoken)):
            dialect.transcript(piece)
    assert dialect.closing(None)["text"] == written([token for tokens in long for token in tokens])


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), st.integers(1, 2_000))
def test_an_interim_text_however_long_is_one_message_of_limited_size(text: str, times: int) -> None:
    for dialect in (Documented(), Sdk()):
        message = dialect.partial(Partial(text * times))
        assert len(encode(message).encode()) <= MAX_MESSAGE_BYTES


@pytest.mark.parametrize("kind", [Documented, Sdk])
def test_a_beat_repeats_the_interim_text_until_it_is_final(kind: type[Dialect]) -> None:
    dialect = kind()
    silence = dialect.beat()
    shown = dialect.partial(Partial("Hello wor"))
    assert dialect.beat() == shown
    dialect.transcript(segment_of(["Hello", "world."]))
    assert dialect.beat() == silence


@given(st.text() | st.binary())
def test_any_first_frame_opens_a_session_or_is_refused(frame: str | bytes) -> None:
    try:
        opening = open_session(frame)
    except SttError:
        assert isinstance(frame, str)
    else:
        assert isinstance(opening.dialect, Sdk) == isinstance(frame, bytes)
        assert isinstance(opening.first, bytes | Control)


@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.dictionaries(st.text(), inner))
)
def test_any_json_is_a_config_a_stop_or_refused(content: object) -> None:
    try:
        opening = open_session(json.dumps(content))
    except SttError:
        assert not isinstance(content, dict) or content.get("action") != "stop"
    else:
        assert isinstance(content, dict)
        assert isinstance(opening.dialect, Documented)
