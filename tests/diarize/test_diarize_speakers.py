"""Real voices through the wire: who spoke when."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.diarize.conftest import Answer, Pcm, Server

Read = Callable[[str], Pcm]


def _cut(pcm: Pcm, start_s: float, end_s: float) -> Pcm:
    return pcm[int(start_s * 16_000) : int(end_s * 16_000)]


def _well_formed(answer: Answer) -> bool:
    turns = answer.turns
    firsts = list(dict.fromkeys(turn.speaker for turn in turns))
    return (
        [turn.start_s for turn in turns] == sorted(turn.start_s for turn in turns)
        and all(0 <= turn.start_s < turn.end_s <= answer.finished.duration_s for turn in turns)
        and firsts == list(range(1, answer.finished.speakers + 1))
    )


async def test_the_two_voices_of_a_dialogue_are_told_apart(server: Server, recording: Read) -> None:
    answer = await server.diarize(recording("endgame_nagg_nell.wav"))
    assert answer.finished.speakers == 2
    assert [answer.speaker_at(t) for t in (6.5, 10.0, 13.0, 16.0, 25.0)] == [[1], [2], [1], [2], [1]]
    assert _well_formed(answer)


@pytest.mark.parametrize("speakers", [1, 2, 3, 6])
async def test_the_number_of_speakers_asked_for_comes_out(server: Server, recording: Read, speakers: int) -> None:
    answer = await server.diarize(recording("endgame_nagg_nell.wav"), speakers=speakers)
    assert answer.finished.speakers == speakers
    assert not answer.finished.warnings
    assert _well_formed(answer)


async def test_a_reading_has_one_speaker(server: Server, recording: Read) -> None:
    answer = await server.diarize(recording("two_cities.wav"))
    assert answer.finished.speakers == 1


async def test_readings_of_one_voice_have_one_speaker(server: Server, recording: Read) -> None:
    joined = np.concatenate([recording("beckett.wav"), recording("two_cities.wav")[: 16 * 16_000]])
    assert (await server.diarize(joined)).finished.speakers == 1


async def test_joined_voices_give_their_turns(server: Server, recording: Read) -> None:
    reader, other, pause = recording("two_cities.wav"), recording("clone-test.wav"), np.zeros(6_400, np.int16)
    parts = [_cut(reader, 1.2, 8.2), _cut(other, 0, 4.1), _cut(reader, 8.7, 14.8), _cut(other, 0, 2.0)]
    answer = await server.diarize(np.concatenate([piece for part in parts for piece in (part, pause)]))
    starts_s = np.cumsum([0.0, *(len(part) / 16_000 + 0.4 for part in parts)])
    for part, start_s, speaker in zip(parts, starts_s, [1, 2, 1, 2], strict=False):
        times_s = np.arange(start_s, start_s + len(part) / 16_000, 0.1)
        named = [answer.speaker_at(time_s) for time_s in times_s]
        assert sum(speakers == [speaker] for speakers in named) > 0.7 * len(times_s)
        assert sum(speakers not in ([speaker], []) for speakers in named) <= 0.05 * len(times_s)
    assert answer.finished.speakers == 2


async def test_fewer_voices_than_asked_for_is_a_warning(server: Server, recording: Read) -> None:
    answer = await server.diarize(recording("clone-test.wav"), speakers=20)
    assert 1 <= answer.finished.speakers < 20
    assert [warning.reason for warning in answer.finished.warnings] == ["FEWER_SPEAKERS"]


@pytest.mark.parametrize("seconds", [0, 0.01, 3, 25])
async def test_silence_has_no_turns(server: Server, seconds: float) -> None:
    answer = await server.diarize(np.zeros(int(seconds * 16_000), np.int16), speakers=0)
    assert answer.turns == []
    assert (answer.finished.samples, answer.finished.speakers) == (int(seconds * 16_000), 0)


@pytest.mark.parametrize("seconds", [0.3, 9.99, 10.0, 10.01, 20.0, 21.5])
async def test_recordings_of_any_length_are_heard_to_their_end(server: Server, recording: Read, seconds: float) -> None:
    pcm = recording("two_cities.wav")[int(1.3 * 16_000) :][: int(seconds * 16_000)]
    answer = await server.diarize(pcm)
    assert answer.finished.duration_s == pytest.approx(seconds)
    assert answer.turns
    assert answer.turns[-1].end_s > seconds - 1.5
    assert _well_formed(answer)


async def test_how_audio_is_cut_into_messages_changes_nothing(server: Server, recording: Read) -> None:
    pcm = _cut(recording("endgame_nagg_nell.wav"), 0, 12)
    whole, odd = await server.diarize(pcm), await server.diarize(pcm, portion_bytes=4_999)
    assert odd.turns == whole.turns
    assert odd.finished == whole.finished


async def test_progress_never_falls_and_reaches_the_end(server: Server, recording: Read) -> None:
    answer = await server.diarize(recording("two_cities.wav"))
    assert answer.progress_s == sorted(set(answer.progress_s))
    assert len(answer.progress_s) > 1
    assert answer.progress_s[-1] == answer.finished.duration_s


async def test_a_recording_finer_looked_at_has_the_same_speakers(server: Server, recording: Read) -> None:
    pcm = recording("endgame_nagg_nell.wav")
    coarse = await server.diarize(pcm, expected_duration_s=4 * 3600.0)
    assert coarse.finished.speakers == 2
    assert [coarse.speaker_at(t) for t in (6.5, 10.0, 13.0)] == [[1], [2], [1]]
