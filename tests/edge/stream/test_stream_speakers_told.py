"""What of a session is told of its speakers, without a wire: whatever diarization says, in whatever order."""

from dataclasses import dataclass, field
from itertools import groupby, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.edge.engine import Update
from services.edge.joining import assign_speakers
from services.edge.stream.dialects import MAX_MESSAGE_BYTES, Documented, Sdk, encode
from services.edge.stream.speakers import MAX_OPEN_WORDS, MAX_TURNS, Named, Part, Speakers
from services.edge.transcript import Segment, Turn, Word

FRAMES_PER_S = 5


def said(start_s: float, words: int, word_s: float = 0.5) -> Segment:
    """Words one after the other, every third of which ends a sentence."""
    texts = ["word." if number % 3 == 2 else "word" for number in range(words)]
    spoken = tuple(Word(t, start_s + i * word_s, start_s + (i + 1) * word_s, 0.9) for i, t in enumerate(texts))
    return Segment(start_s, spoken[-1].end_s, " ".join(texts), 0.9, spoken)


def turns_of(frames: list[int], first: int) -> tuple[Turn, ...]:
    """The turns of frames that each name a speaker, or nobody by 0."""
    turns, at = [], first
    for speaker, run in groupby(frames):
        end = at + len(list(run))
        if speaker:
            turns.append(Turn(at / FRAMES_PER_S, end / FRAMES_PER_S, speaker))
        at = end
    return tuple(turns)


@dataclass
class Session:
    """Segments and updates as they came in turns, and who speaks at last."""

    events: list[Segment | Update] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    settled_s: float = 0.0
    """Up to where it was settled before the last update."""

    @property
    def segments(self) -> dict[int, Segment]:
        return dict(enumerate((event for event in self.events if isinstance(event, Segment)), 1))

    @property
    def turns(self) -> tuple[Turn, ...]:
        return turns_of(self.frames, 0)


@st.composite
def sessions(draw: st.DrawFn) -> Session:
    session, since, spoken_s = Session(), 0, 0.0
    for _ in range(draw(st.integers(1, 12))):
        if draw(st.booleans()):
            segment = said(spoken_s + draw(st.sampled_from([0.0, 0.13, 1.7])), draw(st.integers(1, 8)))
            session.events.append(segment)
            spoken_s = segment.end_s
        else:
            session.settled_s = since / FRAMES_PER_S
            since = draw(st.integers(since, len(session.frames)))
            until = len(session.frames) + draw(st.integers(0, 20))
            heard = draw(st.lists(st.sampled_from([0, 1, 1, 2, 2, 5]), min_size=until - since, max_size=until - since))
            session.frames[since:] = heard
            session.events.append(Update(since / FRAMES_PER_S, until / FRAMES_PER_S, turns_of(heard, since)))
    return session


def tell(events: list[Segment | Update]) -> list[tuple[float, list[Named]]]:
    """What is told after each event and at the end, with the second up to which diarization had looked."""
    speakers, told, until_s, number = Speakers(), [], 0.0, 0
    for event in events:
        if isinstance(event, Segment):
            number += 1
            speakers.add(number, event)
        else:
            speakers.update(event)
            until_s = event.until_s
        told.append((until_s, speakers.due()))
    speakers.finish()
    return [*told, (float("inf"), speakers.due())]


def voices_of(named: Named) -> list[int]:
    """The speaker of each word."""
    return [part.speaker for part in named.parts for _ in range(part.words)]


@given(sessions())
def test_every_segment_is_told_of_word_by_word_when_it_was_heard_and_again_only_when_it_is_otherwise(
    session: Session,
) -> None:
    last: dict[int, Named] = {}
    for until_s, due in tell(session.events):
        assert [named.id for named in due] == sorted(named.id for named in due)
        for named in due:
            segment = session.segments[named.id]
            assert segment.end_s <= until_s
            assert len(voices_of(named)) == len(segment.words)
            assert all(before.speaker != after.speaker for before, after in pairwise(named.parts))
            assert named != last.get(named.id)
            last[named.id] = named
    if session.turns:
        assert set(last) == set(session.segments)


@given(sessions())
def test_what_was_told_last_is_what_diarization_knew_last(session: Session) -> None:
    last = {named.id: voices_of(named) for _, due in tell(session.events) for named in due}
    everything = [*session.segments.values(), Update(0, len(session.frames) / FRAMES_PER_S, session.turns)]
    wanted = {named.id: voices_of(named) for _, due in tell(everything) for named in due}
    open_ids = [i for i, segment in session.segments.items() if segment.end_s > session.settled_s and i in wanted]
    pairs = {pair for i in open_ids for pair in zip(last[i], wanted[i], strict=True)}
    # The same voices, whatever their numbers are.
    assert len({told for told, _ in pairs}) == len({known for _, known in pairs}) == len(pairs)


@given(sessions())
def test_speakers_are_numbered_as_they_are_first_told_of(session: Session) -> None:
    told = [voice for _, due in tell(session.events) for named in due for voice in voices_of(named)]
    first_seen = list(dict.fromkeys(told))
    assert first_seen == list(range(1, len(first_seen) + 1))


@pytest.mark.parametrize(
    "turns",
    [
        [Turn(0, 1.5, 4), Turn(1.5, 6, 2)],
        [Turn(0, 3.2, 2), Turn(3.2, 6, 1)],
        [Turn(0, 1.5, 1), Turn(1.6, 2.9, 2), Turn(3.0, 6, 1)],
        [Turn(0, 6, 3), Turn(2.9, 3.5, 1)],
    ],
)
def test_words_find_their_speakers_as_those_of_a_recording_do(turns: list[Turn]) -> None:
    segments = [said(0, 6), said(3, 6)]
    joined = assign_speakers(segments, turns)
    (_, due), _ = tell([*segments, Update(0, 6, tuple(turns))])[-2:]
    assert [voice for named in due for voice in voices_of(named)] == [s.speaker for s in joined for _ in s.words]


def test_the_speaker_of_a_segment_is_who_says_most_of_its_words() -> None:
    assert Named(1, (Part(1, 3), Part(2, 4), Part(1, 2))).speaker == 1
    assert Named(1, (Part(2, 2), Part(1, 2))).speaker == 2


def test_what_was_settled_is_not_told_again_whatever_comes() -> None:
    speakers = Speakers()
    speakers.add(1, said(0, 2))
    speakers.update(Update(1, 2, (Turn(1, 2, 1),)))
    assert [named.id for named in speakers.due()] == [1]
    speakers.update(Update(0, 2, (Turn(0, 1, 2), Turn(1, 2, 1))))
    assert speakers.due() == []


def test_at_last_what_was_begun_is_told_of_and_what_was_not_is_not() -> None:
    speakers = Speakers()
    for number, start_s in enumerate((0, 2, 4), 1):
        speakers.add(number, said(start_s, 4))
    speakers.update(Update(0, 3, (Turn(0, 3, 1),)))
    assert [named.id for named in speakers.due()] == [1]
    assert [named.id for named in speakers.due(is_last=True)] == [2]


def test_where_nothing_settles_the_oldest_words_stay_as_they_were_told() -> None:
    speakers, segment_words = Speakers(), 10
    segments = MAX_OPEN_WORDS // segment_words + 1
    for number in range(1, segments + 1):
        speakers.add(number, said(number * 5, segment_words))
    end_s = (segments + 1) * 5
    speakers.update(Update(0, end_s, (Turn(0, end_s, 1),)))
    assert [named.id for named in speakers.due()] == list(range(2, segments + 1))


def test_of_the_turns_the_latest_are_enough() -> None:
    speakers = Speakers()
    turns = tuple(Turn(second, second + 1, second % 2 + 1) for second in range(2 * MAX_TURNS))
    speakers.add(1, said(2 * MAX_TURNS - 4, 4))
    speakers.update(Update(0, 2 * MAX_TURNS, turns))
    assert [named.parts for named in speakers.due()] == [(Part(1, 2), Part(2, 2))]


@given(st.lists(st.lists(st.integers(1, 999), min_size=1, max_size=1_500), max_size=12))
def test_however_many_speakers_change_all_are_told_in_messages_of_limited_size(speakers: list[list[int]]) -> None:
    named = [Named(10**9 + i, tuple(Part(s, 1) for s in spoken)) for i, spoken in enumerate(speakers)]
    for dialect in (Documented(), Sdk()):
        messages = list(dialect.speakers(named))
        assert [segment["id"] for m in messages for segment in m["segments"]] == [n.id for n in named]
        assert all(m["segments"] and len(encode(m).encode()) <= MAX_MESSAGE_BYTES for m in messages)
