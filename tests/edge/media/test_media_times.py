"""Audio stands where its container presents it: pauses are silence, which is no audio of the file's."""

from collections.abc import Callable

import numpy as np
import pytest

from services.edge.media.errors import AudioTooLongError
from services.edge.media.timeline import MAX_PAUSE_S
from tests.edge.media.conftest import DecodeWhole
from tests.edge.media.muxing import RATE, Sound, mux

# What a caller calls it: the container, its audio and video codecs.
VIDEOS = {
    "mp4": ("mp4", "aac", "mpeg4"),
    "mov": ("mov", "aac", "mpeg4"),
    "mkv": ("matroska", "aac", "mpeg4"),
    "webm": ("webm", "libopus", "libvpx"),
    "ts": ("mpegts", "aac", "libx264"),
    "mpg": ("mpeg", "mp2", "mpeg1video"),
    "wmv": ("asf", "wmav2", "wmv2"),
}
EXACT_S = 0.1


def delay_s(decoded: np.ndarray, original: np.ndarray) -> float:
    """Where in `decoded` the `original` is, by their correlation."""
    size = len(decoded) + len(original)
    a, b = np.fft.rfft(decoded.astype(np.float64), size), np.fft.rfft(original.astype(np.float64), size)
    best = int(np.argmax(np.fft.irfft(a * b.conj(), size)))
    return (best if best < len(decoded) else best - size) / RATE


def after(seconds: float, samples: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(round(seconds * RATE), np.int16), samples])


@pytest.mark.parametrize("clock_s", [0, 1.4, 30_000])
@pytest.mark.parametrize("kind", VIDEOS)
async def test_audio_that_starts_late_in_a_video_comes_late(
    kind: str, clock_s: float, decode_whole: DecodeWhole, speech: np.ndarray
) -> None:
    container, codec, video = VIDEOS[kind]
    sound = Sound(after(5, speech), codec, left_out=((-1, 5),))
    decoded = await decode_whole(mux(container, sound, video=video, video_s=15, clock_s=clock_s))
    assert delay_s(decoded.samples, speech) == pytest.approx(5, abs=EXACT_S)
    assert not decoded.samples[: 4 * RATE].any()
    assert decoded.heard_samples == pytest.approx(len(speech), abs=0.2 * RATE)
    assert decoded.warnings == ()


@pytest.mark.parametrize("kind", VIDEOS)
async def test_a_gap_in_the_time_stamps_is_silence(kind: str, decode_whole: DecodeWhole, speech: np.ndarray) -> None:
    container, codec, video = VIDEOS[kind]
    first, second = speech[: 4 * RATE], speech[4 * RATE :]
    sound = Sound(np.concatenate([first, after(8, second)]), codec, left_out=((4, 12),))
    decoded = await decode_whole(mux(container, sound, video=video, video_s=18))
    assert delay_s(decoded.samples, first) == pytest.approx(0, abs=EXACT_S)
    assert delay_s(decoded.samples, second) == pytest.approx(12, abs=EXACT_S)
    assert decoded.heard_samples == pytest.approx(len(speech), abs=0.2 * RATE)


@pytest.mark.parametrize("kind", ["mp4", "mov", "mkv", "webm"])
async def test_what_an_encoder_put_before_the_audio_is_no_silence(
    kind: str, decode_whole: DecodeWhole, speech: np.ndarray
) -> None:
    container, codec, video = VIDEOS[kind]
    decoded = await decode_whole(mux(container, Sound(speech, codec), video=video, video_s=10))
    assert delay_s(decoded.samples, speech) == pytest.approx(0, abs=0.03)
    assert len(decoded.samples) == decoded.heard_samples


def jittering() -> Callable[[float], float]:
    random = np.random.default_rng(0)
    return lambda at_s: at_s + float(random.uniform(0, 0.06))


BROKEN_STAMPS: dict[str, Callable[[float], float]] = {
    "jitter": jittering(),
    "jump by days": lambda at_s: at_s + (3 * 86_400 if at_s > 4 else 0),
    "jump by half an hour for a moment": lambda at_s: at_s + (1_800 if 4 < at_s < 4.2 else 0),
    "begin anew": lambda at_s: at_s + (30 if at_s < 4 else 0),
    "stand still": lambda at_s: max(at_s, 4) if at_s < 4 else at_s,
}


@pytest.mark.parametrize("container", ["matroska", "mpegts"])
@pytest.mark.parametrize("stamps", BROKEN_STAMPS)
async def test_broken_time_stamps_add_no_silence_and_take_no_sound(
    stamps: str, container: str, decode_whole: DecodeWhole, speech: np.ndarray
) -> None:
    plain = await decode_whole(mux(container, Sound(speech)))
    broken = await decode_whole(mux(container, Sound(speech, stamp=BROKEN_STAMPS[stamps])))
    assert np.array_equal(broken.samples, plain.samples)


async def test_a_pause_that_is_not_believed_is_told(decode_whole: DecodeWhole, speech: np.ndarray) -> None:
    sound = Sound(speech, stamp=lambda at_s: at_s + (MAX_PAUSE_S + 60 if at_s > 4 else 0))
    decoded = await decode_whole(mux("matroska", sound))
    assert len(decoded.samples) == pytest.approx(len(speech), abs=0.2 * RATE)
    assert decoded.warnings == ("The file's time stamps jump at 4.0 s; the pause there was left out.",)


async def test_a_pause_that_no_audio_may_have_is_left_out(decode_whole: DecodeWhole, speech: np.ndarray) -> None:
    sound = Sound(speech, stamp=lambda at_s: at_s + (100 if at_s > 4 else 0))
    decoded = await decode_whole(mux("matroska", sound), 60)
    assert len(decoded.samples) == pytest.approx(len(speech), abs=0.2 * RATE)


async def test_pauses_and_audio_together_may_not_be_longer_than_audio_may_be(
    decode_whole: DecodeWhole, speech: np.ndarray
) -> None:
    sound = Sound(speech, stamp=lambda at_s: at_s + (50 if at_s > 4 else 0))
    with pytest.raises(AudioTooLongError):
        await decode_whole(mux("matroska", sound), 55)
