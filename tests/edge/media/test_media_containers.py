"""Every kind of file that callers send comes out as the same speech."""

from collections.abc import Awaitable, Callable

import numpy as np
import pytest

RATE = 16_000
# What a caller calls it: how it is made. Encoders delay a signal and pad its end: 0.2 s is more than any of them.
KINDS = {
    "mp3": {"container": "mp3", "audio": "libmp3lame", "rate": 44_100},
    "wav": {"container": "wav", "audio": "pcm_s16le"},
    "flac": {"container": "flac", "audio": "flac", "rate": 48_000},
    "ogg": {"container": "ogg", "audio": "vorbis", "rate": 44_100, "layout": "stereo"},
    "m4a": {"container": "ipod", "audio": "aac", "rate": 44_100},
    "aac": {"container": "adts", "audio": "aac", "rate": 48_000, "layout": "stereo"},
    "opus": {"container": "opus", "audio": "libopus", "rate": 48_000},
    "wma": {"container": "asf", "audio": "wmav2", "bit_rate": 64_000, "rate": 44_100},
    "mp4": {"container": "mp4", "audio": "aac", "rate": 44_100, "video": "mpeg4"},
    "webm": {"container": "webm", "audio": "libopus", "rate": 48_000, "video": "libvpx"},
    "mkv": {"container": "matroska", "audio": "ac3", "rate": 48_000, "layout": "5.1", "video": "mpeg4"},
    "avi": {"container": "avi", "audio": "libmp3lame", "rate": 22_050, "video": "mpeg4"},
    "mov": {"container": "mov", "audio": "alac", "rate": 44_100, "video": "mpeg4"},
    "wmv": {
        "container": "asf",
        "audio": "wmav2",
        "bit_rate": 64_000,
        "rate": 44_100,
        "layout": "stereo",
        "video": "wmv2",
    },
    "mpg": {"container": "mpeg", "audio": "mp2", "rate": 44_100, "video": "mpeg1video"},
    "mpeg": {"container": "vob", "audio": "mp2", "rate": 48_000, "layout": "stereo", "video": "mpeg2video"},
    # Relatives that phones, recorders and cameras write.
    "aiff": {"container": "aiff", "audio": "pcm_s16be", "rate": 44_100},
    "caf": {"container": "caf", "audio": "pcm_s16le", "rate": 48_000},
    "3gp": {"container": "3gp", "audio": "libopencore_amrnb", "bit_rate": 12_200, "rate": 8_000},
    "m2ts": {"container": "mpegts", "audio": "aac", "rate": 48_000, "video": "libx264"},
    "m4a in fragments": {
        "container": "mp4",
        "audio": "aac",
        "rate": 44_100,
        "options": {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "1000000"},
    },
}


def likeness(decoded: np.ndarray, original: np.ndarray) -> tuple[float, float]:
    """The correlation at the best delay, and that delay in seconds."""
    a, b = decoded.astype(np.float64), original.astype(np.float64)
    size = len(a) + len(b)
    correlation = np.fft.irfft(np.fft.rfft(a, size) * np.fft.rfft(b, size).conj(), size)
    best = int(np.argmax(correlation))
    return correlation[best] / np.sqrt((a @ a) * (b @ b)), (best if best < len(a) else best - size) / RATE


@pytest.mark.parametrize("kind", KINDS)
async def test_decodes_to_the_same_speech(
    kind: str,
    speech: np.ndarray,
    encode: Callable[..., bytes],
    decode: Callable[..., Awaitable[np.ndarray]],
) -> None:
    decoded = await decode(encode(**KINDS[kind]))
    correlation, delay_s = likeness(decoded, speech)
    assert abs(len(decoded) - len(speech)) / RATE < 0.2
    # AMR codes a model of the voice, not its wave.
    assert correlation > (0.7 if kind == "3gp" else 0.9)
    assert abs(delay_s) < 0.1


async def test_a_16_khz_mono_recording_comes_out_bit_for_bit(
    speech: np.ndarray, encode: Callable[..., bytes], decode: Callable[..., Awaitable[np.ndarray]]
) -> None:
    assert np.array_equal(await decode(encode("wav", "pcm_s16le")), speech)


@pytest.mark.parametrize("channels", [3, 8, 11, 64])
async def test_channels_of_unknown_place_are_mixed(
    channels: int, speech: np.ndarray, make_wav: Callable[..., bytes], decode: Callable[..., Awaitable[np.ndarray]]
) -> None:
    decoded = await decode(make_wav(np.repeat(speech[:, None], channels, axis=1)))
    correlation, delay_s = likeness(decoded, speech)
    assert len(decoded) == len(speech)
    assert correlation > 0.99
    assert delay_s == 0


async def test_a_voice_in_one_channel_only_is_heard(
    speech: np.ndarray, make_wav: Callable[..., bytes], decode: Callable[..., Awaitable[np.ndarray]]
) -> None:
    right_only = np.stack([np.zeros_like(speech), speech], axis=1)
    decoded = await decode(make_wav(right_only))
    assert likeness(decoded, speech)[0] > 0.99
    assert np.abs(decoded).max() >= np.abs(speech).max() // 2


async def test_parameters_may_change_in_mid_stream(
    speech: np.ndarray, encode: Callable[..., bytes], decode: Callable[..., Awaitable[np.ndarray]]
) -> None:
    half = len(speech) // 2
    first = encode("adts", "aac", rate=44_100, samples=speech[:half])
    second = encode("adts", "aac", rate=48_000, layout="stereo", samples=speech[half:])
    decoded = await decode(first + second)
    assert abs(len(decoded) - len(speech)) / RATE < 0.3
    assert likeness(decoded[: half + RATE // 5], speech[:half])[0] > 0.9
    assert likeness(decoded[half - RATE // 5 :], speech[half:])[0] > 0.9
