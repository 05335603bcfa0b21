"""How a transcript is written down."""

import io
import re
from itertools import pairwise

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.edge.formats import bare_word, to_json
from services.edge.subtitles import to_srt, to_vtt
from services.edge.transcript import Segment, Transcript, Word


def transcript(*segments: Segment) -> Transcript:
    return Transcript("en", 125.4, "m", segments, ())


def said(start_s: float, text: str, speaker: int | None = None, word_s: float = 0.3) -> Segment:
    words = tuple(
        Word(token, start_s + i * word_s, start_s + (i + 1) * word_s, 0.9) for i, token in enumerate(text.split())
    )
    return Segment(start_s, words[-1].end_s, text, 0.9, words, speaker=speaker)


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
            "words": [{"word": "Hello", "start": 0.0, "end": 0.3}, {"word": "world", "start": 0.3, "end": 0.6}],
        }
    ]
    assert list(content["segments"][0]) == ["start", "end", "text", "speaker", "confidence", "words"]
    assert content["speakers"] == ["Speaker 1"]
    assert content["duration"] == 125.4


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


tokens = st.text(st.characters(categories=("L", "N", "P", "S"), exclude_characters="{}"), min_size=1, max_size=14)
gaps = st.floats(0, 4).map(lambda t: round(t, 3))


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    segments = []
    at_s = draw(gaps)
    for _ in range(draw(st.integers(0, 5))):
        words = []
        for token in draw(st.lists(tokens, min_size=1, max_size=40)):
            start_s = at_s + draw(gaps) * draw(st.integers(0, 1))
            at_s = start_s + draw(st.floats(0, 1))
            words.append(Word(token, start_s, at_s, 0.9))
        text = " ".join(word.text for word in words)
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
    shown = " ".join(" ".join(block[2:]) for block in blocks)
    names = r"(?:(?<= )|^)Speaker \d: "
    assert re.sub(names, "", shown).split() == [w.text for s in spoken.segments for w in s.words]
    assert [block[0] for block in blocks] == [str(number) for number in range(1, len(blocks) + 1)]
    assert all(1 <= len(block[2:]) <= 2 and max(map(len, block[2:])) <= 42 for block in blocks)
    times = [(start, end) for start, end, _ in parsed(document, "srt")] if blocks else []
    assert len(times) == len(blocks)
    assert all(0 < end - start <= 7_000 for start, end in times)
    assert all(first[1] <= second[0] for first, second in pairwise(times))


@given(transcripts())
def test_vtt_is_read_back_by_a_parser_cue_by_cue(spoken: Transcript) -> None:
    document = to_vtt(spoken)
    cues = parsed(document, "webvtt") if spoken.segments else []
    shown = " ".join(re.sub(r"^<v Speaker \d>", "", text) for _, _, text in cues)
    unescaped = shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert unescaped.split() == [w.text for s in spoken.segments for w in s.words]
    assert all(0 < end - start <= 7_000 for start, end, _ in cues)
    assert all(first[1] <= second[0] for first, second in pairwise(cues))
