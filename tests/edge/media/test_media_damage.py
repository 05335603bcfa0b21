"""Files that are cut, damaged or several in one: what there is is heard, and what is missing is told."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from tests.edge.media.conftest import DecodeWhole
from tests.edge.media.muxing import RATE, Sound, mux

Encode = Callable[..., bytes]

KINDS = {
    "wav": {"container": "wav", "audio": "pcm_s16le"},
    "flac": {"container": "flac", "audio": "flac"},
    "ogg": {"container": "ogg", "audio": "vorbis", "rate": 44_100, "layout": "stereo"},
    "opus": {"container": "opus", "audio": "libopus", "rate": 48_000},
    "mp4": {"container": "mp4", "audio": "aac", "rate": 44_100},
    "mp3": {"container": "mp3", "audio": "libmp3lame", "rate": 44_100},
    "wma": {"container": "asf", "audio": "wmav2", "bit_rate": 64_000, "rate": 44_100},
    "mkv": {"container": "matroska", "audio": "aac", "rate": 48_000},
    "ts": {"container": "mpegts", "audio": "aac", "rate": 48_000},
    "aiff": {"container": "aiff", "audio": "pcm_s16be", "rate": 44_100},
}


def likeness(decoded: np.ndarray, original: np.ndarray) -> float:
    """Correlation at the best delay."""
    a, b = decoded.astype(np.float64), original.astype(np.float64)
    size = len(a) + len(b)
    correlation = np.fft.irfft(np.fft.rfft(a, size) * np.fft.rfft(b, size).conj(), size)
    return float(correlation.max() / np.sqrt((a @ a) * (b @ b)))


@pytest.mark.parametrize("kind", KINDS)
async def test_two_files_one_behind_the_other_are_heard_as_one(
    kind: str, encode: Encode, decode_whole: DecodeWhole, speech: np.ndarray
) -> None:
    half = len(speech) // 2
    content = encode(**KINDS[kind], samples=speech[:half]) + encode(**KINDS[kind], samples=speech[half:])
    decoded = await decode_whole(content)
    assert len(decoded.samples) == pytest.approx(len(speech), abs=0.3 * RATE)
    assert likeness(decoded.samples[:half], speech[:half]) > 0.9
    assert likeness(decoded.samples[half:], speech[half:]) > 0.9


CHAINS = {
    "rate and channels": ({"audio": "libopus"}, {"audio": "vorbis", "rate": 44_100, "layout": "stereo"}),
    "rate": (
        {"audio": "vorbis", "rate": 44_100, "layout": "stereo"},
        {"audio": "vorbis", "rate": 32_000, "layout": "stereo"},
    ),
    "codec": ({"audio": "flac"}, {"audio": "libopus", "rate": 48_000}),
}


@pytest.mark.parametrize("change", CHAINS)
async def test_an_ogg_stream_that_changes_is_heard_to_its_end(
    change: str, encode: Encode, decode_whole: DecodeWhole, speech: np.ndarray
) -> None:
    half = len(speech) // 2
    first, second = CHAINS[change]
    content = encode("ogg", **{"rate": 48_000, **first}, samples=speech[:half]) + encode(
        "ogg", **second, samples=speech[half:]
    )
    decoded = await decode_whole(content)
    assert likeness(decoded.samples[:half], speech[:half]) > 0.9
    assert likeness(decoded.samples[half:], speech[half:]) > 0.9
    assert decoded.warnings == ()


async def test_a_second_file_that_cannot_be_read_is_told(
    encode: Encode, decode_whole: DecodeWhole, make_wav: Callable[..., bytes], speech: np.ndarray
) -> None:
    whole = make_wav(speech[:, None])
    decoded = await decode_whole(whole + whole[:12])
    assert np.array_equal(decoded.samples, speech)
    assert decoded.warnings == (
        "The file is several recordings one behind the other, and 1 of them could not be read.",
    )


@pytest.mark.parametrize("kind", ["wav", "flac", "mkv", "aiff"])
async def test_a_file_that_is_shorter_than_it_says_is_told(
    kind: str, encode: Encode, decode_whole: DecodeWhole
) -> None:
    content = encode(**KINDS[kind])
    decoded = await decode_whole(content[: len(content) // 2])
    (warning,) = (text for text in decoded.warnings if text.startswith("The file says"))
    missing_s, read_s = map(float, re.findall(r"(\d+\.\d) s", warning))
    assert read_s == pytest.approx(len(decoded.samples) / RATE, abs=0.1)
    assert missing_s + read_s == pytest.approx(10, abs=0.3)


async def test_an_mp4_that_is_cut_off_behind_its_index_is_told(
    encode: Encode, decode_whole: DecodeWhole, tmp_path: Path
) -> None:
    path = tmp_path / "index_first.mp4"
    with (
        av.open(io.BytesIO(encode(**KINDS["mp4"]))) as source,
        av.open(str(path), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    content = path.read_bytes()
    decoded = await decode_whole(content[: len(content) * 2 // 3])
    assert len(decoded.samples) > 5 * RATE
    assert any("more audio" in warning for warning in decoded.warnings)


@pytest.mark.parametrize("kind", ["flac", "wma"])
async def test_a_file_that_breaks_off_within_a_packet_is_told(
    kind: str, encode: Encode, decode_whole: DecodeWhole
) -> None:
    content = encode(**KINDS[kind])
    decoded = await decode_whole(content[: len(content) // 2])
    assert f"The file breaks off at {len(decoded.samples) / RATE:.1f} s." in decoded.warnings


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
async def test_damage_is_told_with_its_place_and_its_length(
    container: str, decode_whole: DecodeWhole, speech: np.ndarray
) -> None:
    decoded = await decode_whole(mux(container, Sound(speech, damaged=((3, 3.3), (6, 6.7)))))
    (warning,) = decoded.warnings
    told = re.fullmatch(r"Damaged audio was left out \(at least (\d\.\d+) s\) at 3\.0 s and 6\.0 s\.", warning)
    assert told
    assert float(told[1]) == pytest.approx(1, abs=0.1)
    assert len(decoded.samples) == pytest.approx(len(speech), abs=0.1 * RATE)


async def test_of_much_damage_the_first_places_are_told(decode_whole: DecodeWhole, speech: np.ndarray) -> None:
    damaged = tuple((second, second + 0.2) for second in range(1, 9))
    (warning,) = (await decode_whole(mux("mp4", Sound(speech, damaged=damaged)))).warnings
    assert warning.endswith("at 1.0 s, 2.0 s, 3.0 s and 5 more places.")


async def test_a_page_that_an_ogg_file_lacks_is_told(encode: Encode, decode_whole: DecodeWhole) -> None:
    content = bytearray(encode(**KINDS["opus"]))
    middle = len(content) // 2
    content[middle : middle + 2_000] = bytes(2_000)
    decoded = await decode_whole(bytes(content))
    assert len(decoded.samples) == pytest.approx(10 * RATE, abs=0.1 * RATE)
    (warning,) = decoded.warnings
    assert re.fullmatch(r"Damaged audio was left out \(at least \d\.\d+ s\) at [45]\.\d s\.", warning)


@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_is_told_of_a_whole_file(kind: str, encode: Encode, decode_whole: DecodeWhole) -> None:
    assert (await decode_whole(encode(**KINDS[kind]))).warnings == ()


@pytest.mark.parametrize("claimed_bytes", [0, 0xFFFFFFFF])
async def test_nothing_is_told_of_a_recording_with_an_unfinished_header(
    claimed_bytes: int, make_wav: Callable[..., bytes], decode_whole: DecodeWhole, speech: np.ndarray
) -> None:
    assert (await decode_whole(make_wav(speech[:, None], claimed_bytes=claimed_bytes))).warnings == ()
