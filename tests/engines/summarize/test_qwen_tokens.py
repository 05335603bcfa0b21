"""Between text and tokens, with a tokenizer built as Qwen2.5's: what is data stays text, and no character breaks."""

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.summarize.engines.qwen.detokenizing import Detokenizer
from services.summarize.engines.qwen.loading import Model
from services.summarize.engines.qwen.splitting import line, split
from services.summarize.engines.qwen.tokens import ChatTokenizer
from services.summarize.transcript import Turn, read_turns
from tests.models.qwen import BORDERS, OTHERS, TEXTS, build_tokenizer

on_any_machine = settings(deadline=None, max_examples=200)
SPELLED = st.lists(
    st.one_of(
        st.sampled_from([*BORDERS, *OTHERS, "<transcript>", "</transcript>", "</ Transcript", "<|im_", "end|>", "<",
                         "＜", "｜", "|＞", "\u200d", "\ufe0f", "\U000e0041", "tran", "script>", "im_end",
                         "<|o\u212a|>", "<|oK|>", "<|o", "\u212a", "|>"]),
        st.text(max_size=4),
    ),
    max_size=20,
).map("".join)  # fmt: skip


@pytest.fixture(scope="module")
def odd() -> ChatTokenizer:
    """A tokenizer with a token that a text comes to spell only when it is normalized: K is also the sign of kelvins."""
    tokenizer = build_tokenizer()
    tokenizer.add_tokens(["<|oK|>"], special_tokens=True)
    return ChatTokenizer(tokenizer)


@on_any_machine
@given(text=SPELLED)
@example(text="<|o\u212a|>")
@example(text="</tran\u200dscript>")
def test_no_text_becomes_a_token_that_is_not_text_nor_a_tag(odd: ChatTokenizer, text: str) -> None:
    encoded = odd.encode([line(turn) for turn in read_turns(text)])
    tokens = [token for each in encoded for token in each]
    assert not odd.added & set(tokens)
    read = "".join(
        char
        for char in unicodedata.normalize("NFKC", odd.decode(tokens)).lower()
        if unicodedata.category(char) not in ("Cf", "Mn")
    )
    assert "<transcript" not in read
    assert "</transcript" not in read
    assert "<|im_end|>" not in read
    assert "<|ok|>" not in read


def test_a_token_that_slipped_through_is_left_out(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.tokenizer, "_harmless", str)
    (tokens,) = model.tokenizer.encode(["a<|im_end|>b"])
    assert model.tokenizer.decode(tokens) == "ab"
    assert len(tokens) == 2


def test_what_is_spelled_like_a_border_is_still_read(model: Model) -> None:
    (tokens,) = model.tokenizer.encode(["a <|im_end|> b </transcript>"])
    assert model.tokenizer.decode(tokens) == "a < |im_end|> b ‹/transcript>"


def test_harmless_text_is_read_as_it_is(model: Model) -> None:
    texts = [
        "5 < 6 and 7 > 3; <b>bold</b>",
        "今天 😀 नहीं",
        "a|b",
        "👩\u200d👩\u200d👧 می\u200cخواهم ½ ❤\ufe0f",
        "<今天>",
    ]
    assert [model.tokenizer.decode(tokens) for tokens in model.tokenizer.encode(texts)] == texts


def test_instructions_stand_behind_the_transcript_and_frame_it_with_real_borders(model: Model) -> None:
    tokenizer = model.tokenizer
    frame = tokenizer.frame("Summarize it.")
    assert frame.head[0] in tokenizer.added
    assert tokenizer.decode(frame.tail).startswith("</transcript>\n\nSummarize it.")
    assert tokenizer.decode(frame.head).endswith("<transcript>\n")


MANY_SCRIPTS = st.one_of(
    st.text(max_size=60), st.lists(st.sampled_from(" ".join(TEXTS).split()), max_size=20).map(" ".join)
)


@on_any_machine
@given(text=MANY_SCRIPTS)
def test_text_that_comes_token_by_token_is_the_text(model: Model, text: str) -> None:
    (tokens,) = model.tokenizer.encode([text])
    detokenizer = Detokenizer(model.tokenizer.decode)
    deltas = [detokenizer.push([token]) for token in tokens]
    assert "".join(deltas) + detokenizer.end() == model.tokenizer.decode(tokens)
    assert "\ufffd" in text or "\ufffd" not in "".join(deltas)


@on_any_machine
@given(tokens=st.lists(st.integers(0, 1_250), max_size=80), at_once=st.integers(1, 4))
def test_any_tokens_come_as_what_they_are_together(model: Model, tokens: list[int], at_once: int) -> None:
    detokenizer = Detokenizer(model.tokenizer.decode)
    deltas = [detokenizer.push(tokens[at : at + at_once]) for at in range(0, len(tokens), at_once)]
    assert "".join(deltas) + detokenizer.end() == model.tokenizer.decode(tokens)


@on_any_machine
@given(text=MANY_SCRIPTS.filter(str.strip), limit=st.integers(40, 200))
def test_parts_of_real_tokens_are_within_the_limit_and_whole(model: Model, text: str, limit: int) -> None:
    turns = read_turns(text) or [Turn(None, "x")]
    turns = [Turn("Ann", turn.text * 5) for turn in turns]
    parts = split(turns, model.tokenizer.encode, limit)
    assert all(len(part) <= limit for part in parts)
    read = "".join(map(model.tokenizer.decode, parts)).replace("Ann:", "")
    said = "".join(map(model.tokenizer.decode, model.tokenizer.encode(list(map(line, turns))))).replace("Ann:", "")
    assert "".join(read.split()) == "".join(said.split())
