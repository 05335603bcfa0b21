"""How a transcript is written down."""

import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.edge.formats import bare_word, to_json
from services.edge.subtitles import to_srt, to_vtt
from services.edge.transcript import Segment, Transcript, Word, join


def transcript(*segments: Segment) -> Transcript:
    return Transcript("en", 125.4 if not segments else segments[-1].end_s + 125.4, "m", segments, ())


def said(start_s: float, text: str, speaker: int | None = None, word_s: float = 0.3) -> Segment:
    """Words one after the other; a `+` attaches a word to the one before it."""
    words = tuple(
        Word(token.removeprefix("+"), start_s + i * word_s, start_s + (i + 1) * word_s, 0.9, token.startswith("+"))
        for i, token in enumerate(text.split())
    )
    text = text.replace(" +", "").removeprefix("+")
    return Segment(start_s, words[-1].end_s, text, 0.9, words, speaker=speaker)


def unspaced(text: str) -> str:
    """Every character as a word, attached to the one before it."""
    return " ".join(f"+{character}" for character in text)


def parsed(document: str, kind: str) -> list[tuple[int, int, str]]:
    """Start and end in milliseconds, and text, as FFmpeg reads the document."""
    with av.open(io.BytesIO(document.encode()), format=kind) as container:
        packets = [p for p in container.demux(subtitles=0) if p.size]
        return [
            (round(p.pts * p.time_base * 1000), round((p.pts + p.duration) * p.time_base * 1000), bytes(p).decode())
            for p in packets
        ]


def test_json_has_the_contracts_keys_in_the_contracts_order() -> None:
    content = to_json(transcript(said(0.0, "Hello, world.", 1)))
    assert list(content) == ["text", "language", "duration", "segments", "speakers", "model", "warnings"]
    assert content["segments"] == [
        {
            "start": 0.0,
            "end": 0.6,
            "text": "Hello, world.",
            "speaker": "Speaker 1",
            "confidence": 0.9,
            "words": [
                {"word": "Hello", "start": 0.0, "end": 0.3, "confidence": 0.9},
                {"word": "world", "start": 0.3, "end": 0.6, "confidence": 0.9},
            ],
        }
    ]
    assert list(content["segments"][0]) == ["start", "end", "text", "speaker", "confidence", "words"]
    assert content["speakers"] == ["Speaker 1"]
    assert content["duration"] == 126


def test_json_without_speakers_has_no_speaker_key() -> None:
    content = to_json(transcript(said(0.0, "Hello.")))
    assert "speaker" not in content["segments"][0]
    assert content["speakers"] == []


def test_only_estimated_times_are_called_so() -> None:
    estimated = Segment(0.0, 1.0, "x", 0.5, (Word("x", 0.0, 1.0, 0.5),), estimated=True)
    assert to_json(transcript(estimated))["segments"][0]["timing"] == "estimated"
    assert "timing" not in to_json(transcript(said(0.0, "x")))["segments"][0]


def test_silence_is_empty() -> None:
    content = to_json(transcript())
    assert (content["text"], content["segments"], content["speakers"]) == ("", [], [])


@pytest.mark.parametrize(
    ("written", "bare"),
    [
        ("Hello,", "Hello"),
        ('"Stop!"', "Stop"),
        ("(well", "well"),
        ("don't", "don't"),
        ("well-known;", "well-known"),
        ("50%.", "50%"),
        ("$20,", "$20"),
        ("-5,", "-5"),
        ("7:30.", "7:30"),
        ("U.S.", "U.S"),
        ("C++", "C++"),
        ("#3", "#3"),
        ("¿Qué?", "Qué"),
        ("—", "—"),
    ],
)
def test_a_word_loses_the_punctuation_around_it_and_nothing_else(written: str, bare: str) -> None:
    assert bare_word(written) == bare


def test_srt_names_a_speaker_where_it_changes() -> None:
    document = to_srt(transcript(said(0, "Hello.", 1), said(2, "Again.", 1), said(4, "Hi.", 2), said(6, "So.", 1)))
    assert document == (
        "1\n00:00:00,000 --> 00:00:01,000\nSpeaker 1: Hello.\n\n"
        "2\n00:00:02,000 --> 00:00:03,000\nAgain.\n\n"
        "3\n00:00:04,000 --> 00:00:05,000\nSpeaker 2: Hi.\n\n"
        "4\n00:00:06,000 --> 00:00:07,000\nSpeaker 1: So.\n"
    )


def test_vtt_names_a_speaker_in_a_voice_tag_and_escapes_the_text() -> None:
    document = to_vtt(transcript(said(0, "R&D <b> 1>0", 1), said(3661.5, "Hi.", 2)))
    assert document == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:01.000\n<v Speaker 1>R&amp;D &lt;b&gt; 1&gt;0\n\n"
        "01:01:01.500 --> 01:01:02.500\n<v Speaker 2>Hi.\n"
    )


@pytest.mark.parametrize("write", [to_srt, to_vtt])
def test_a_cue_ends_with_the_audio_at_the_latest(write: Callable[[Transcript], str]) -> None:
    clip = replace(transcript(said(0.1, "Yes.", word_s=0.15)), duration_s=0.3)
    assert re.sub(",", ".", write(clip)).split("\n")[-3].endswith("00:00:00.100 --> 00:00:00.300")


def test_a_word_behind_the_audios_end_has_a_cue_all_the_same() -> None:
    document = to_srt(replace(transcript(said(0.1, "Yes."), said(0.5, "No.")), duration_s=0.3))
    assert [(start, end) for start, end, _ in parsed(document, "srt")] == [(100, 300), (500, 501)]


def test_wide_characters_take_two_cells_of_a_line_and_marks_on_others_none() -> None:
    korean = to_srt(transcript(said(0, "가나다라 마바사아 자차카타 파하가나 다라마바")))
    assert korean.split("\n")[2:4] == ["가나다라 마바사아 자차카타 파하가나", "다라마바"]
    thai = " ".join(["ที่นี่"] * 10)  # two letters each, and marks on them
    assert to_srt(transcript(said(0, thai))).split("\n")[2] == thai


@pytest.mark.parametrize("text", ["שלום, עולם.", "مرحبا بالعالم!", "ה-API של Google עובד."])
def test_lines_written_from_right_to_left_are_marked_so(text: str) -> None:
    marked = f"\u202b{text}\u202c"
    assert to_srt(transcript(said(0, text))).split("\n")[2] == marked
    assert to_vtt(transcript(said(0, text))).split("\n")[3] == marked


def test_a_speakers_name_stands_in_the_line_that_is_marked_and_a_voice_tag_before_it() -> None:
    spoken = transcript(said(0, "שלום.", 1), said(2, "Hello.", 2))
    assert to_srt(spoken).split("\n")[2::4] == ["\u202bSpeaker 1: שלום.\u202c", "Speaker 2: Hello."]
    assert to_vtt(spoken).split("\n")[3] == "<v Speaker 1>\u202bשלום.\u202c"


def test_a_word_of_another_script_does_not_turn_a_line() -> None:
    assert "\u202b" not in to_srt(transcript(said(0, "She said שלום to us.")))


def test_a_single_speaker_is_not_named() -> None:
    assert "Speaker" not in to_srt(transcript(said(0, "Hello.", 1)))
    assert "<v" not in to_vtt(transcript(said(0, "Hello.", 1)))


def test_subtitles_of_silence_are_valid_and_empty() -> None:
    assert to_srt(transcript()) == ""
    assert to_vtt(transcript()) == "WEBVTT\n"


def test_a_cue_ends_with_its_sentence_and_at_a_pause() -> None:
    document = to_srt(transcript(said(0, "This is the first sentence of them. And this the second.")))
    assert [text for _, _, text in parsed(document, "srt")] == [
        "This is the first sentence of them.",
        "And this the second.",
    ]


def test_a_cue_ends_with_its_sentence_where_no_space_follows_it() -> None:
    first, second = "「昨天下午我们在图书馆里一起看了三个小时的书。」", "今天我们去公园。"
    text = f"{unspaced(first[:-3])} +{first[-3:]} {unspaced(second)}"
    document = to_srt(transcript(said(0, text, word_s=0.1)))
    assert [text for _, _, text in parsed(document, "srt")] == [
        "「昨天下午我们在图书馆里一起看了三个小时的\n书。」",
        second,
    ]


@pytest.mark.parametrize("write", [to_srt, to_vtt])
def test_a_text_without_spaces_is_broken_between_its_words(write: Callable[[Transcript], str]) -> None:
    text = "一二三四五六七八九十" * 5
    *_, first, second = write(transcript(said(0, unspaced(text), word_s=0.05))).split("\n\n")
    assert first.split("\n")[-2:] == [text[:21], text[21:42]]
    assert second.split("\n")[-2:] == [text[42:], ""]


def test_a_text_without_spaces_stands_apart_from_its_speakers_name() -> None:
    document = to_srt(transcript(said(0, "+你好。", 1), said(2, "+早上 +好。", 2)))
    assert [block.split("\n")[2] for block in document.split("\n\n")] == ["Speaker 1: 你好。", "Speaker 2: 早上好。"]


@pytest.mark.parametrize("write", [lambda t: to_json(t)["text"], to_srt, to_vtt])
def test_a_mixed_text_keeps_the_spaces_its_words_say(write: Callable[[Transcript], str]) -> None:
    assert "我用 Python 写 code。好的。" in write(transcript(said(0, "+我 +用 Python 写 code +。 +好的。")))


def test_the_text_says_where_a_segment_follows_without_a_space() -> None:
    spoken = transcript(said(0, "+我 +用"), said(1, "Python"), said(2, "写。"), said(3, "+好的。"))
    assert to_json(spoken)["text"] == "我用 Python 写。好的。"


def test_a_change_of_language_is_a_space_and_nothing_else_is() -> None:
    english, chinese = said(0, "like today?"), said(1, "+今天 +天氣 +怎麼樣")
    more, again = said(3, "+很好"), said(4, "How do I")
    languages = [(english, "en"), (chinese, "zh"), (more, "zh"), (again, "en")]
    spoken = transcript(*(replace(segment, language=language) for segment, language in languages))
    assert to_json(spoken)["text"] == "like today? 今天天氣怎麼樣很好 How do I"


def test_json_has_the_words_of_a_text_without_spaces_bare() -> None:
    (segment,) = to_json(transcript(said(0, "+你好， +世界。")))["segments"]
    assert (segment["text"], [word["word"] for word in segment["words"]]) == ("你好，世界。", ["你好", "世界"])


def test_a_line_break_within_a_word_does_not_break_a_cue() -> None:
    spoken = Segment(0.0, 1.0, "a\n\nb", 0.9, (Word("a\n\nb", 0.0, 1.0, 0.9),))
    assert to_srt(transcript(spoken)) == "1\n00:00:00,000 --> 00:00:01,000\na  b\n"


scripts = st.sampled_from(["今天", "ありがとう", "สวัสดี", "안녕", "नमस्ते", "مرحبا", "code", "Ça", "。", "7%"])


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "en", "ja", "zh"]), st.lists(st.tuples(scripts, st.booleans()), min_size=1))
    )
)
def test_in_every_script_the_words_are_the_text_with_a_space_where_they_or_a_new_language_say_so(
    spoken: list[tuple[str, list[tuple[str, bool]]]],
) -> None:
    segments, expected, before = [], "", None
    for language, tokens in spoken:
        words = tuple(Word(text, 0.0, 1.0, 0.9, attached) for text, attached in tokens)
        segments.append(Segment(0.0, 1.0, join(words), 0.9, words, language=language))
        apart = before is not None and language != before
        expected += (" " if apart and words[0].attached else "") + "".join(map(spaced, words))
        before = language
    assert transcript(*segments).text == expected.removeprefix(" ")


def cells(text: str) -> int:
    """How wide a text without marks is shown."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def unmarked(line: str) -> str:
    """A line without the marks of a script that is written from right to left."""
    return line.removeprefix("\u202b").removesuffix("\u202c")


tokens = st.text(st.characters(categories=("L", "N", "P", "S"), exclude_characters="{}"), min_size=1, max_size=14)
gaps = st.floats(0, 4).map(lambda t: round(t, 3))


def spaced(word: Word) -> str:
    return word.text if word.attached else f" {word.text}"


def assert_written(lines: Iterable[str], segments: Sequence[Segment]) -> None:
    """The lines hold all words in order, each with a space before it or none, as it says."""
    words = iter([word for segment in segments for word in segment.words])
    for line in lines:
        text = next(words).text
        while len(text) < len(line):
            text += spaced(next(words))
        assert text == line
    assert next(words, None) is None


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    segments = []
    at_s = draw(gaps)
    for _ in range(draw(st.integers(0, 5))):
        words = []
        for token in draw(st.lists(tokens, min_size=1, max_size=40)):
            start_s = at_s + draw(gaps) * draw(st.integers(0, 1))
            at_s = start_s + draw(st.floats(0, 1))
            words.append(Word(token, start_s, at_s, 0.9, draw(st.booleans())))
        text = "".join(spaced(word) for word in words).strip()
        speaker = draw(st.integers(1, 3))
        segments.append(Segment(words[0].start_s, at_s, text, 0.9, tuple(words), speaker=speaker))
    numbers = {s.speaker: None for s in segments}
    order = {speaker: i for i, speaker in enumerate(numbers, 1)}
    renumbered = [Segment(s.start_s, s.end_s, s.text, 0.9, s.words, speaker=order[s.speaker]) for s in segments]
    return transcript(*renumbered)


@given(transcripts())
def test_srt_holds_every_word_once_in_readable_cues_that_do_not_overlap(spoken: Transcript) -> None:
    document = to_srt(spoken)
    blocks = [block.split("\n") for block in document.strip("\n").split("\n\n")] if document else []
    lines = [unmarked(line) for block in blocks for line in block[2:]]
    assert_written((re.sub(r"^Speaker \d: ", "", line) for line in lines), spoken.segments)
    assert [block[0] for block in blocks] == [str(number) for number in range(1, len(blocks) + 1)]
    assert all(1 <= len(block[2:]) <= 2 for block in blocks)
    assert all(cells(line) <= 42 for line in lines)
    times = [(start, end) for start, end, _ in parsed(document, "srt")] if blocks else []
    assert len(times) == len(blocks)
    assert all(0 < end - start <= 7_000 for start, end in times)
    assert all(first[1] <= second[0] for first, second in pairwise(times))


@given(transcripts())
def test_vtt_is_read_back_by_a_parser_cue_by_cue(spoken: Transcript) -> None:
    document = to_vtt(spoken)
    cues = parsed(document, "webvtt") if spoken.segments else []
    shown = "\n".join(re.sub(r"^<v Speaker \d>", "", text) for _, _, text in cues)
    unescaped = shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert_written(map(unmarked, unescaped.splitlines()), spoken.segments)
    assert all(0 < end - start <= 7_000 for start, end, _ in cues)
    assert all(first[1] <= second[0] for first, second in pairwise(cues))
