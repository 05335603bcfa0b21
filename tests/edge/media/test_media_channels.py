"""However many channels a recording has and wherever they stand, what is said on any of them is heard."""

from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from tests.edge.media.muxing import RATE, Sound, mux

Decode = Callable[..., Awaitable[np.ndarray]]
MakeWav = Callable[..., bytes]


def likeness(decoded: np.ndarray, original: np.ndarray) -> float:
    """Correlation without delay, 1 for the same sound at any loudness, -1 for its opposite."""
    length = min(len(decoded), len(original))
    a, b = decoded[:length].astype(np.float64), original[:length].astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def loudness(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples.astype(np.float64)))))


def placed(samples: np.ndarray, layout: str) -> bytes:
    """A WAV whose channel mask says where its channels stand."""
    return mux("wav", Sound(samples, "pcm_s16le", RATE, layout))


async def test_a_voice_that_is_opposite_in_left_and_right_is_heard(
    decode: Decode, make_wav: MakeWav, speech: np.ndarray
) -> None:
    decoded = await decode(make_wav(np.stack([speech, -speech], axis=1)))
    assert abs(likeness(decoded, speech)) > 0.99
    assert loudness(decoded) > 0.9 * loudness(speech)


async def test_an_opposite_voice_that_a_codec_has_changed_is_heard(decode: Decode, speech: np.ndarray) -> None:
    stereo = np.stack([speech, -(speech * 0.9).astype(np.int16)], axis=1)
    decoded = await decode(mux("mp3", Sound(stereo, "libmp3lame", 44_100, "stereo")))
    assert loudness(decoded) > 0.8 * loudness(speech)


async def test_a_recording_that_is_opposite_for_a_while_is_heard_throughout(
    decode: Decode, make_wav: MakeWav, speech: np.ndarray
) -> None:
    other = speech.copy()
    other[3 * RATE : 6 * RATE] *= -1
    decoded = await decode(make_wav(np.stack([speech, other], axis=1)))
    seconds = range(0, len(speech) - RATE, RATE)
    heard = [loudness(decoded[i : i + RATE]) / loudness(speech[i : i + RATE]) for i in seconds]
    assert min(heard) > 0.9


async def test_a_change_between_mix_and_channel_makes_no_click(decode: Decode, make_wav: MakeWav) -> None:
    tone = (8_000 * np.sin(np.arange(4 * RATE) * 2 * np.pi * 200 / RATE)).astype(np.int16)
    other = tone.copy()
    other[2 * RATE :] *= -1
    decoded = await decode(make_wav(np.stack([other, tone], axis=1)))
    assert np.abs(np.diff(decoded.astype(np.int32))).max() < 1.2 * np.abs(np.diff(tone.astype(np.int32))).max()


@pytest.mark.parametrize("channels", [3, 6, 7, 8, 10])
async def test_a_voice_on_any_channel_of_unknown_place_is_heard(
    channels: int, decode: Decode, make_wav: MakeWav, speech: np.ndarray
) -> None:
    spoken = speech[: 2 * RATE]
    for number in range(channels):
        samples = np.zeros((len(spoken), channels), np.int16)
        samples[:, number] = spoken
        decoded = await decode(make_wav(samples))
        assert likeness(decoded, spoken) > 0.98
        assert loudness(decoded) > 0.9 * loudness(spoken) / channels


async def test_voices_on_channels_of_unknown_place_are_mixed_evenly(
    decode: Decode, make_wav: MakeWav, speech: np.ndarray
) -> None:
    one, other = speech[: 3 * RATE], speech[3 * RATE : 6 * RATE]
    silence = np.zeros_like(one)
    decoded = await decode(make_wav(np.stack([one, silence, silence, other], axis=1)))
    assert likeness(decoded, one.astype(np.int32) + other) > 0.99


@pytest.mark.parametrize("layout", ["2.1", "5.1", "7.1"])
async def test_a_voice_on_the_bass_channel_is_heard(layout: str, decode: Decode, speech: np.ndarray) -> None:
    channels = {"2.1": 3, "5.1": 6, "7.1": 8}[layout]
    samples = np.zeros((len(speech), channels), np.int16)
    samples[:, 2 if layout == "2.1" else 3] = speech
    assert likeness(await decode(placed(samples, layout)), speech) > 0.99


async def test_the_bass_channel_of_a_film_is_left_out(decode: Decode, speech: np.ndarray) -> None:
    samples = np.zeros((len(speech), 6), np.int16)
    samples[:, 2] = speech
    samples[:, 3] = 30_000 * np.sin(np.arange(len(speech)) * 2 * np.pi * 50 / RATE)
    assert likeness(await decode(placed(samples, "5.1")), speech) > 0.99
