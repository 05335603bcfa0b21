"""Recordings in all kinds of files, made with PyAV when they are asked for, and a decoder to feed them to."""

import io
import struct
import sysconfig
import wave
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.edge.media.decoder import DecodedAudio, DecodeLimits, Decoder
from services.edge.media.spool import Spool

ASSETS = Path(sysconfig.get_paths()["purelib"]) / "moonshine_voice" / "assets"
VIDEO_S = 1

Decode = Callable[..., Awaitable[np.ndarray]]


@pytest.fixture(scope="session")
def speech() -> np.ndarray:
    """Ten seconds of a voice: int16 at 16 kHz."""
    with wave.open(str(ASSETS / "beckett.wav")) as recording:
        assert (recording.getframerate(), recording.getnchannels()) == (16_000, 1)
        return np.frombuffer(recording.readframes(recording.getnframes()), np.int16)


@pytest.fixture(scope="session")
def encode(speech: np.ndarray) -> Callable[..., bytes]:
    """Make a media file of the voice, or of `samples` (16 kHz); `video` names the codec of a second of grey."""

    def make(
        container: str,
        audio: str | None,
        rate: int = 16_000,
        layout: str = "mono",
        bit_rate: int | None = None,
        video: str | None = None,
        samples: np.ndarray = speech,
        options: dict[str, str] | None = None,
    ) -> bytes:
        target = io.BytesIO()
        with av.open(target, "w", format=container, options=options or {}) as output:
            pictures = _video_stream(output, video) if video else None
            sound = output.add_stream(audio, rate=rate, layout=layout) if audio else None
            if isinstance(sound, AudioStream):
                sound.codec_context.options = {"strict": "experimental"}  # FFmpeg's own Vorbis encoder
                if bit_rate:
                    sound.codec_context.bit_rate = bit_rate
            if pictures:
                for index in range(25 * VIDEO_S):
                    frame = VideoFrame.from_ndarray(np.full((64, 64, 3), 99, np.uint8), format="rgb24")
                    frame.pts = index
                    output.mux(pictures.encode(frame))
                output.mux(pictures.encode(None))
            if isinstance(sound, AudioStream):
                frame = AudioFrame.from_ndarray(samples[None, :], format="s16", layout="mono")
                frame.sample_rate = 16_000
                frame.time_base = Fraction(1, 16_000)
                frame.pts = 0
                frame_size = 0 if audio and audio.startswith("pcm") else sound.codec_context.frame_size
                resampler = av.AudioResampler(sound.format, sound.layout, rate, frame_size=frame_size or 1024)
                for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                    output.mux(sound.encode(piece))
                output.mux(sound.encode(None))
        return target.getvalue()

    return make


def wav(samples: np.ndarray, rate: int = 16_000, claimed_bytes: int | None = None) -> bytes:
    """A plain WAV of `samples` (time, channels), whose header may lie and names no channel layout."""
    channels, data = samples.shape[1], samples.tobytes()
    claimed_bytes = len(data) if claimed_bytes is None else claimed_bytes
    frame_bytes = channels * samples.itemsize
    codec = 3 if samples.dtype.kind == "f" else 1
    fmt = struct.pack("<HHIIHH", codec, channels, rate, rate * frame_bytes, frame_bytes, samples.itemsize * 8)
    riff_bytes = min(36 + claimed_bytes, 0xFFFFFFFF)
    return b"RIFF%sWAVEfmt %s%sdata%s" % (_u32(riff_bytes), _u32(16), fmt, _u32(claimed_bytes)) + data


def _u32(number: int) -> bytes:
    return struct.pack("<I", number)


@pytest.fixture(scope="session")
def make_wav() -> Callable[..., bytes]:
    """Give tests `wav`, for they cannot import from here."""
    return wav


def _video_stream(output: av.container.OutputContainer, codec: str) -> VideoStream:
    stream = output.add_stream(codec, rate=25)
    assert isinstance(stream, VideoStream)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuv420p"
    return stream


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """A spool that must be found empty, and without a child process, when the test is over."""
    before = set(psutil.Process().children())
    spool = Spool(tmp_path / "spool", budget_bytes=1 << 30)
    yield spool
    assert spool.used_bytes == 0
    assert list((tmp_path / "spool").iterdir()) == []
    assert set(psutil.Process().children()) <= before


@pytest.fixture
def decode(decode_whole: "DecodeWhole") -> Decode:
    """Send bytes all the way through the sandboxed child; return the PCM as int16."""

    async def run(content: bytes, max_audio_s: int = 3600) -> np.ndarray:
        return (await decode_whole(content, max_audio_s)).samples

    return run


@dataclass(frozen=True)
class Whole:
    """What is known of a decoded file: int16 samples, those that are not its pauses, and the warnings."""

    samples: np.ndarray
    heard_samples: int
    warnings: tuple[str, ...]


DecodeWhole = Callable[..., Awaitable[Whole]]


@pytest.fixture
def decode_whole(spool: Spool) -> DecodeWhole:
    """Send bytes all the way through the sandboxed child; return all that comes back."""
    decoder = Decoder(spool, DecodeLimits(wall_s=30))

    async def run(content: bytes, max_audio_s: int = 3600) -> Whole:
        with closing(spool.file()) as upload:
            await upload.write(content)
            await upload.flush()
            decoded = await decoder.decode(upload, max_audio_s)
        with closing(decoded.pcm):
            return Whole(await samples_of(decoded), decoded.heard_samples, decoded.warnings)

    return run


async def samples_of(decoded: DecodedAudio) -> np.ndarray:
    pcm = b"".join([chunk async for chunk in decoded.pcm.chunks(65_536)])
    samples = np.frombuffer(pcm, np.int16)
    assert decoded.samples == len(samples)
    return samples
