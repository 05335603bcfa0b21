"""Files that are broken, lie, or attack: a clear error or what could be decoded, and nothing opened on the way."""

import http.server
import io
import struct
import threading
import zlib
from collections.abc import Awaitable, Callable, Iterator
from io import FileIO
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.edge.media import pcm
from services.edge.media.errors import (
    EmptyFileError,
    MediaError,
    NoAudioTrackError,
    UnsupportedCodecError,
    UnsupportedMediaError,
)
from services.edge.media.source import NamelessFile
from tests.edge.media.muxing import Sound, mux

RATE = 16_000
Decode = Callable[..., Awaitable[np.ndarray]]


async def test_an_empty_file_says_so(decode: Decode) -> None:
    with pytest.raises(EmptyFileError, match="empty"):
        await decode(b"")


@pytest.mark.parametrize("text", ["Dear sir,\n" * 200, "ID3", "{}", "\x00" * 5000, "a"])
async def test_text_is_no_media_whatever_its_name(text: str, decode: Decode) -> None:
    with pytest.raises(UnsupportedMediaError, match="supported format"):
        await decode(text.encode())


async def test_a_picture_is_refused(decode: Decode) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(9) * 8)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    with pytest.raises(MediaError):
        await decode(png)


async def test_a_codec_that_is_not_supported_is_named(speech: np.ndarray, decode: Decode) -> None:
    with pytest.raises(UnsupportedCodecError, match=r"^G\.726 ADPCM audio is not supported"):
        await decode(mux("wav", Sound(speech, "g726", 8_000)))


@pytest.mark.parametrize(
    ("container", "video"),
    [
        ("mp4", "mpeg4"),
        ("matroska", "mpeg4"),
        ("webm", "libvpx"),
        ("avi", "mpeg4"),
        ("asf", "wmv2"),
        ("mpeg", "mpeg1video"),
    ],
)
async def test_a_video_without_sound_has_no_audio_track(
    container: str, video: str, encode: Callable[..., bytes], decode: Decode
) -> None:
    with pytest.raises(NoAudioTrackError, match="no audio track"):
        await decode(encode(container, None, video=video))


async def test_a_recording_without_one_sample_is_refused(make_wav: Callable[..., bytes], decode: Decode) -> None:
    with pytest.raises(MediaError):
        await decode(make_wav(np.zeros((0, 1), np.int16)))


STREAMABLE = [
    ("wav", "pcm_s16le"),
    ("mp3", "libmp3lame"),
    ("flac", "flac"),
    ("opus", "libopus"),
    ("adts", "aac"),
    ("matroska", "aac"),
    ("asf", "wmav2"),
    ("mpegts", "aac"),
]


def rate_of(codec: str) -> int:
    return RATE if codec in ("pcm_s16le", "flac") else 48_000


@pytest.mark.parametrize(("container", "codec"), STREAMABLE)
async def test_a_truncated_file_gives_what_is_there(
    container: str, codec: str, encode: Callable[..., bytes], decode: Decode, speech: np.ndarray
) -> None:
    content = encode(container, codec, rate=rate_of(codec), bit_rate=96_000)
    decoded = await decode(content[: len(content) // 2])
    assert 0.3 * len(speech) < len(decoded) < 0.8 * len(speech)


async def test_an_mp4_without_its_end_is_an_error_not_a_crash(encode: Callable[..., bytes], decode: Decode) -> None:
    content = encode("mp4", "aac", rate=48_000, video="mpeg4")
    with pytest.raises(MediaError):
        await decode(content[: len(content) * 9 // 10])


async def test_what_lies_after_damage_is_still_decoded(
    encode: Callable[..., bytes], decode: Decode, speech: np.ndarray
) -> None:
    content = bytearray(encode("mp3", "libmp3lame", rate=48_000))
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    assert len(await decode(bytes(content))) > 0.9 * len(speech)


@pytest.mark.parametrize(("container", "codec"), [*STREAMABLE, ("mp4", "aac"), ("ogg", "flac"), ("avi", "libmp3lame")])
async def test_flipped_bits_give_audio_or_a_clear_error(
    container: str, codec: str, encode: Callable[..., bytes], decode: Decode, speech: np.ndarray
) -> None:
    whole = encode(container, codec, rate=rate_of(codec), bit_rate=96_000, samples=speech[: 2 * RATE])
    for seed in range(4):
        random = np.random.default_rng(seed)
        content = np.frombuffer(whole, np.uint8).copy()
        # Half of them in the head, where headers are.
        span = len(content) if seed % 2 else min(400, len(content))
        content[random.integers(0, span, 20)] ^= (1 << random.integers(0, 8, 20)).astype(np.uint8)
        try:
            decoded = await decode(content.tobytes(), max_audio_s=60)
        except MediaError:
            continue
        assert len(decoded) > 0


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    head=st.sampled_from([b"RIFF", b"OggS\x00\x02", b"fLaC\x00", b"\x1aE\xdf\xa3", b"\xff\xfb\x90"]),
    body=st.binary(max_size=4000),
)
async def test_any_bytes_give_audio_or_a_clear_error(decode: Decode, head: bytes, body: bytes) -> None:
    try:
        decoded = await decode(head + body, max_audio_s=60)
    except MediaError:
        return
    assert len(decoded)


async def test_a_header_that_claims_less_than_there_is_changes_nothing(
    encode: Callable[..., bytes], decode: Decode, speech: np.ndarray
) -> None:
    content = bytearray(encode("flac", "flac"))
    assert content[4] & 0x7F == 0  # STREAMINFO
    content[21] &= 0xF0
    content[22:26] = struct.pack(">I", RATE)
    with av.open(io.BytesIO(bytes(content))) as claimed:
        assert claimed.duration == av.time_base
    assert len(await decode(bytes(content))) == len(speech)


@pytest.mark.parametrize("claimed_bytes", [0, 0xFFFFFFFF])
async def test_a_recording_with_an_unfinished_header_is_decoded_whole(
    claimed_bytes: int, make_wav: Callable[..., bytes], decode: Decode, speech: np.ndarray
) -> None:
    assert len(await decode(make_wav(speech[:, None], claimed_bytes=claimed_bytes))) == len(speech)


@pytest.mark.parametrize("rate", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF])
async def test_an_absurd_sample_rate_is_refused(rate: int, make_wav: Callable[..., bytes], decode: Decode) -> None:
    content = bytearray(make_wav(np.ones((5000, 1), np.int16)))
    content[24:28] = struct.pack("<I", rate)
    with pytest.raises(MediaError):
        await decode(bytes(content), max_audio_s=60)


async def test_infinities_in_float_audio_do_no_harm(make_wav: Callable[..., bytes], decode: Decode) -> None:
    samples = np.array([np.nan, np.inf, -np.inf, 1e30, 0.5] * 1000, np.float32)[:, None]
    assert len(await decode(make_wav(samples))) == len(samples)


class Listener(http.server.BaseHTTPRequestHandler):
    """Counts who calls, and answers with nothing."""

    calls: list[str]

    def do_GET(self) -> None:
        self.calls.append(self.path)
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """A web server on loopback that nothing may call: its address, and the calls."""
    calls: list[str] = []
    handler = type("Handler", (Listener,), {"calls": calls})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/canary.ts", calls
        server.shutdown()
        thread.join()


SCRIPTS = {
    "HLS": "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:10.0,\n{}\n#EXT-X-ENDLIST\n",
    "HLS with a key": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{}"\n#EXTINF:10.0,\n{}\n#EXT-X-ENDLIST\n',
    "ffconcat": "ffconcat version 1.0\nfile '{}'\n",
    "DASH": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation mimeType="audio/mp4"><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "M3U": "#EXTM3U\n{}\n",
    "PLS": "[playlist]\nFile1={}\n",
    "a list of names": "{}\n",
}


@pytest.mark.parametrize("script", SCRIPTS)
async def test_a_playlist_reads_no_file_and_calls_nobody(
    script: str,
    encode: Callable[..., bytes],
    decode: Decode,
    listener: tuple[str, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, calls = listener
    canary = tmp_path / "canary.wav"
    canary.write_bytes(encode("wav", "pcm_s16le"))
    monkeypatch.chdir(tmp_path)
    for target in [address, str(canary), f"file:{canary}", "canary.wav", f"concat:{canary}|{canary}", "data:,x"]:
        content = SCRIPTS[script].replace("{}", target).encode()
        with pytest.raises(MediaError):
            await decode(content)
        # The options that FFmpeg is given would do without the sandbox.
        (tmp_path / "upload").write_bytes(content)
        with (
            (tmp_path / "upload").open("rb") as upload,
            FileIO(tmp_path / "pcm", "w+") as file,
            pytest.raises(pcm.MediaFailure),
        ):
            pcm.decode(NamelessFile(upload.fileno()), file, RATE * 60)
    assert calls == []


def test_the_same_playlist_is_followed_where_nothing_forbids_it(
    listener: tuple[str, list[str]], encode: Callable[..., bytes], tmp_path: Path
) -> None:
    # Without this, the test above might show only that the attack does not work at all.
    address, calls = listener
    (tmp_path / "canary.wav").write_bytes(encode("wav", "pcm_s16le"))
    concat = tmp_path / "list.mp4"
    concat.write_text(SCRIPTS["ffconcat"].replace("{}", "canary.wav"))
    with av.open(str(concat)) as followed:
        assert followed.streams.audio
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(SCRIPTS["HLS"].replace("{}", address))
    with playlist.open("rb") as named, pytest.raises(av.FFmpegError):
        av.open(named)
    assert calls
