"""Numbers of speakers stay theirs, however their voices are grouped from one update to the next."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.diarize.continuity import Memory, Named, Numbers
from services.diarize.engine import Turn
from services.diarize.voices import Voice

HORIZON_S = 20.0
Update = tuple[float, float, list[Turn]]


@st.composite
def sessions(draw: st.DrawFn) -> list[Update]:
    """Updates of a session: since, until, and turns of up to five groups, who change from one to the next."""
    updates = []
    until_s = 0.0
    for _ in range(draw(st.integers(1, 12))):
        until_s += draw(st.floats(0.5, 15))
        since_s = max(0.0, until_s - HORIZON_S)
        spans = st.tuples(st.floats(since_s, until_s), st.floats(0.1, 8), st.integers(0, 4))
        found = [Turn(start_s, min(start_s + s, until_s), group) for start_s, s, group in draw(st.lists(spans))]
        turns = sorted((turn for turn in found if turn.start_s < turn.end_s), key=lambda turn: turn.start_s)
        updates.append((since_s, until_s, turns))
    return updates


def _told(session: list[Update], limit: int = 0) -> list[list[int]]:
    """Return the numbers of all turns of all updates."""
    numbers, told = Numbers(limit), []
    for since_s, until_s, turns in session:
        names = numbers.name(turns, since_s, until_s, {})
        told.append([names[turn.speaker] for turn in turns])
    return told


@settings(deadline=None)
@given(sessions())
def test_who_comes_up_for_the_first_time_has_the_next_number(session: list[Update]) -> None:
    firsts = list(dict.fromkeys(number for told in _told(session) for number in told))
    assert firsts == list(range(1, len(firsts) + 1))


@settings(deadline=None)
@given(sessions())
def test_two_groups_never_have_one_number(session: list[Update]) -> None:
    for (_, _, turns), told in zip(session, _told(session), strict=True):
        pairs = {(turn.speaker, number) for turn, number in zip(turns, told, strict=True)}
        assert len(pairs) == len({turn.speaker for turn in turns}) == len(set(told))


def _one_at_a_time(turns: list[Turn]) -> list[Turn]:
    """Return the turns, in tenths of seconds, of which none overlaps another: there it is clear who is who."""
    found: list[Turn] = []
    for turn in turns:
        start_s, end_s = round(turn.start_s, 1), round(turn.end_s, 1)
        if start_s < end_s and (not found or found[-1].end_s <= start_s):
            found.append(Turn(start_s, end_s, turn.speaker))
    return found


@settings(deadline=None)
@given(sessions())
def test_the_same_turns_again_have_the_same_numbers(session: list[Update]) -> None:
    spoken = [(since_s, until_s, _one_at_a_time(turns)) for since_s, until_s, turns in session]
    *_, before, after = _told([*spoken, spoken[-1]])
    assert before == after


@settings(deadline=None)
@given(sessions(), st.integers(5, 8))
def test_there_are_never_more_numbers_than_asked_for(session: list[Update], limit: int) -> None:
    assert all(1 <= number <= limit for told in _told(session, limit) for number in told)


@settings(deadline=None)
@given(st.permutations(range(3)), st.permutations(range(3)))
def test_what_groups_are_called_means_nothing(before: list[int], after: list[int]) -> None:
    spoken = [(0.0, 4.0, 0), (4.0, 7.0, 1), (7.0, 9.0, 2), (9.0, 10.0, 0)]
    session = [(0.0, 10.0, [Turn(s, e, names[who]) for s, e, who in spoken]) for names in (before, after)]
    assert _told(session) == [[1, 2, 3, 1]] * 2


def test_who_was_taken_for_another_has_his_own_number_once_he_is_told_apart_again() -> None:
    apart = [Turn(0, 6, 0), Turn(6, 9, 1)]
    merged = [Turn(0, 9, 0)]
    session = [(0.0, 10.0 + step, turns) for step, turns in enumerate([apart, merged, merged, merged, apart])]
    assert _told(session) == [[1, 2], [1], [1], [1], [1, 2]]


def test_of_two_who_were_told_as_one_the_longer_keeps_the_number() -> None:
    assert _told([(0.0, 10.0, [Turn(0, 9, 0)]), (0.0, 10.0, [Turn(0, 3, 0), Turn(3, 9, 1)])]) == [[1], [2, 1]]


def test_who_comes_back_after_a_long_time_is_known_by_what_is_remembered() -> None:
    numbers = Numbers(0)
    assert numbers.name([Turn(0, 5, 0), Turn(5, 9, 1)], 0.0, 10.0, {}) == {0: 1, 1: 2}
    assert numbers.name([Turn(95, 99, 7), Turn(99, 100, 8)], 80.0, 100.0, {(2, 7): 4.0, (1, 9): 5.0}) == {
        7: 2,
        9: 1,
        8: 3,
    }


def test_a_stranger_does_not_get_the_number_of_somebody_who_is_silent() -> None:
    numbers = Numbers(0)
    numbers.name([Turn(0, 9, 0)], 0.0, 10.0, {})
    # What he said last was taken for the first one's; he is remembered, and in a group of his own.
    numbers.name([Turn(95, 97, 0)], 80.0, 97.0, {(1, 0): 9.0})
    assert numbers.name([Turn(95, 99, 1)], 80.0, 100.0, {(1, 0): 9.0})[1] == 2


def _named(number: int, speech_s: float) -> Named:
    return Named(Voice(0.0, b"", speech_s, np.zeros(256, np.float32)), number)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.floats(0.1, 10))), st.integers(6, 20))
def test_who_has_the_most_voices_gives_up_his_shortest(heard: list[tuple[int, float]], size: int) -> None:
    memory = Memory(size)
    for number, speech_s in heard:
        before = Counter(each.number for each in memory.voices)
        memory.add(_named(number, speech_s))
        kept = Counter(each.number for each in memory.voices)
        assert kept.total() == min(before.total() + 1, size)
        assert set(kept) == {*before, number}
    for number in {number for number, _ in heard}:
        own = sorted((speech_s for who, speech_s in heard if who == number), reverse=True)
        kept_s = sorted((each.voice.speech_s for each in memory.voices if each.number == number), reverse=True)
        assert kept_s[0] == own[0]
