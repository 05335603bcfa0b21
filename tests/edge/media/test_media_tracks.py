"""Which of several audio tracks are heard, as the PCM and the warnings tell."""

import numpy as np
import pytest
from av.stream import Disposition

from tests.edge.media.conftest import DecodeWhole
from tests.edge.media.muxing import RATE, UNMARKED, Sound, mux

DEFAULT = Disposition.default
TONE_HZ = (500, 1_000, 2_000)


def tone(number: int, seconds: int = 3) -> np.ndarray:
    """Tell tracks apart: each has its own tone."""
    return (6_000 * np.sin(np.arange(seconds * RATE) * 2 * np.pi * TONE_HZ[number - 1] / RATE)).astype(np.int16)


def tones(samples: np.ndarray) -> list[int]:
    """The numbers of the tones that are heard."""
    spectrum = np.abs(np.fft.rfft(samples[: 2 * RATE].astype(np.float64)))
    return [number for number, hz in enumerate(TONE_HZ, 1) if spectrum[2 * hz] > 0.1 * 6_000 * RATE]


SILENCE = np.zeros(3 * RATE, np.int16)


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "mpegts"])
async def test_tracks_of_which_none_is_marked_are_mixed(container: str, decode_whole: DecodeWhole) -> None:
    decoded = await decode_whole(mux(container, Sound(tone(1)), Sound(tone(2))))
    assert tones(decoded.samples) == [1, 2]
    assert decoded.warnings == ("The file has 2 audio tracks: tracks 1 and 2 were mixed.",)


async def test_the_first_track_of_an_mp4_is_marked_by_itself_and_does_not_rule(decode_whole: DecodeWhole) -> None:
    content = mux("mp4", Sound(tone(1), disposition=DEFAULT), Sound(tone(2)))
    assert tones((await decode_whole(content)).samples) == [1, 2]


@pytest.mark.parametrize(("container", "marked"), [("matroska", 1), ("matroska", 2), ("mp4", 2)])
async def test_a_track_that_somebody_marked_as_default_is_taken_alone(
    container: str, marked: int, decode_whole: DecodeWhole
) -> None:
    sounds = [Sound(tone(n), disposition=DEFAULT if n == marked else UNMARKED) for n in (1, 2)]
    decoded = await decode_whole(mux(container, *sounds))
    assert tones(decoded.samples) == [marked]
    assert decoded.warnings == (f"The file has 2 audio tracks: track {marked}, the default one, was transcribed.",)


async def test_tracks_that_are_all_marked_are_mixed(decode_whole: DecodeWhole) -> None:
    content = mux("matroska", *(Sound(tone(n), disposition=DEFAULT) for n in (1, 2)))
    assert tones((await decode_whole(content)).samples) == [1, 2]


async def test_a_silent_first_track_does_not_hide_the_others(decode_whole: DecodeWhole) -> None:
    decoded = await decode_whole(mux("mp4", Sound(SILENCE, disposition=DEFAULT), Sound(tone(2))))
    assert tones(decoded.samples) == [2]
    assert decoded.warnings == ("The file has 2 audio tracks: only track 2 has sound.",)


async def test_a_default_track_without_sound_gives_way_to_a_mix_of_the_others(decode_whole: DecodeWhole) -> None:
    sounds = [Sound(tone(1)), Sound(SILENCE, disposition=DEFAULT), Sound(tone(3))]
    decoded = await decode_whole(mux("matroska", *sounds))
    assert tones(decoded.samples) == [1, 3]
    assert decoded.warnings == ("The file has 3 audio tracks: tracks 1 and 3 were mixed.",)


async def test_tracks_without_any_sound_are_silence_and_said_to_be(decode_whole: DecodeWhole) -> None:
    decoded = await decode_whole(mux("mp4", Sound(SILENCE), Sound(SILENCE)))
    assert not decoded.samples.any()
    assert decoded.warnings == ("The file has 2 audio tracks: none of them has sound.",)


async def test_tracks_in_two_languages_are_not_mixed(decode_whole: DecodeWhole) -> None:
    content = mux("mp4", Sound(tone(1), language="eng"), Sound(tone(2), language="spa"))
    decoded = await decode_whole(content)
    assert tones(decoded.samples) == [1]
    assert decoded.warnings == ("The file has 2 audio tracks: they differ in language, and track 1 was transcribed.",)


async def test_a_commentary_is_not_mixed_in(decode_whole: DecodeWhole) -> None:
    content = mux("matroska", Sound(tone(1)), Sound(tone(2), disposition=Disposition.comment))
    assert tones((await decode_whole(content)).samples) == [1]


async def test_a_track_that_cannot_be_decoded_does_not_hide_one_that_can(decode_whole: DecodeWhole) -> None:
    undecodable = Sound(tone(1), "tta", RATE, disposition=DEFAULT)
    decoded = await decode_whole(mux("matroska", undecodable, Sound(tone(2))))
    assert tones(decoded.samples) == [2]
    assert "Audio tracks were left out: TTA (True Audio) audio is not supported." in decoded.warnings


async def test_a_mix_of_loud_tracks_does_not_wrap_around(decode_whole: DecodeWhole) -> None:
    loud = (32_000 * np.sign(tone(1).astype(np.int32))).astype(np.int16)
    decoded = await decode_whole(mux("matroska", *(Sound(loud, "pcm_s16le", RATE) for _ in range(3))))
    assert np.array_equal(np.sign(decoded.samples), np.sign(loud))


async def test_tracks_are_mixed_where_each_of_them_stands(decode_whole: DecodeWhole) -> None:
    later = Sound(np.concatenate([SILENCE, tone(2)]), left_out=((-1, 3),))
    decoded = await decode_whole(mux("mp4", Sound(tone(1)), later))
    assert tones(decoded.samples) == [1]
    assert tones(decoded.samples[3 * RATE :]) == [2]
