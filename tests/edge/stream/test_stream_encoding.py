"""What audio a live session takes: raw PCM, told by what is said of it and by its bytes; and PCM is never refused."""

from collections.abc import Callable
from typing import Any

import aiohttp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from services.edge.stream.encoding import Intake
from tests.edge.conftest import Edge
from tests.edge.fakes import FakeLiveAsr
from tests.edge.metering.conftest import OpenAccount, http, open_account
from tests.edge.stream.conftest import CONFIG, SECOND, STOP, Client, Connect

__all__ = ["http", "open_account"]

Encode = Callable[..., bytes]
WANTED = "send raw PCM, signed 16-bit little-endian, 16 kHz, mono."

FILES = {
    "WebM or Matroska": ("webm", "libopus", 48_000, {}),
    "Ogg": ("ogg", "libopus", 48_000, {}),
    "FLAC": ("flac", "flac", 16_000, {}),
    "MP4": ("mp4", "aac", 16_000, {}),
    "MP3": ("mp3", "libmp3lame", 44_100, {}),
    "MP3 ": ("mp3", "libmp3lame", 44_100, {"id3v2_version": "0", "write_xing": "0"}),
    "MP3  ": ("mp3", "libmp3lame", 16_000, {"id3v2_version": "0", "write_xing": "0"}),
}


@pytest.mark.parametrize("opening", [[CONFIG], []])
@pytest.mark.parametrize("frame_bytes", [3_200, 7])
@pytest.mark.parametrize("name", FILES)
async def test_a_file_that_is_no_wav_is_named_in_an_error(
    connect: Connect, asr: FakeLiveAsr, encode: Encode, name: str, frame_bytes: int, opening: list[Any]
) -> None:
    container, codec, rate, options = FILES[name]
    content = encode(container, codec, rate=rate, options=options)[:4_096]
    client = await connect()
    await client.say(*opening, *(content[at : at + frame_bytes] for at in range(0, len(content), frame_bytes)))
    messages, code = await client.hear_out()
    assert (messages[-1]["error"], code) == (f"The audio is {name.strip()}: {WANTED}", 1008)
    assert messages[-1]["code"] == "UNSUPPORTED_MEDIA"
    assert [session.pcm for session in asr.sessions] == [b""] * len(asr.sessions)


@pytest.mark.parametrize(
    ("rate", "channels", "kind", "named"),
    [
        (44_100, 1, np.int16, "a WAV file of 16-bit PCM, 44,100 Hz, 1 channel"),
        (16_000, 2, np.int16, "a WAV file of 16-bit PCM, 16,000 Hz, 2 channels"),
        (16_000, 1, np.int32, "a WAV file of 32-bit PCM, 16,000 Hz, 1 channel"),
        (16_000, 1, np.float32, "a WAV file of 32-bit floating point, 16,000 Hz, 1 channel"),
    ],
)
async def test_a_wav_of_another_format_is_named_in_an_error(
    connect: Connect, make_wav: Callable[..., bytes], rate: int, channels: int, kind: type, named: str
) -> None:
    client = await connect()
    await client.say(CONFIG, make_wav(np.zeros((16_000, channels), kind), rate))
    messages, code = await client.hear_out()
    assert (messages[-1]["error"], code) == (f"The audio is {named}: {WANTED}", 1008)


async def test_a_wav_without_samples_is_an_error(connect: Connect, make_wav: Callable[..., bytes]) -> None:
    header = make_wav(np.zeros((0, 1), np.int16))[:36]
    client = await connect()
    await client.say(CONFIG, header + b"LIST\0\0\0\0" * 20)
    messages, code = await client.hear_out()
    assert ("do not follow its header" in messages[-1]["error"], code) == (True, 1008)


@pytest.mark.parametrize("frame_bytes", [1, 20, 3_200])
@pytest.mark.parametrize("plain", [True, False])
async def test_the_header_of_a_wav_of_the_right_format_is_skipped(
    connect: Connect,
    asr: FakeLiveAsr,
    speech: np.ndarray,
    make_wav: Callable[..., bytes],
    encode: Encode,
    frame_bytes: int,
    plain: bool,
) -> None:
    # FFmpeg's has a chunk of metadata before the samples.
    content = make_wav(speech[:2_000, None]) if plain else encode("wav", "pcm_s16le", samples=speech[:2_000])
    client = await connect()
    await client.say(CONFIG, *(content[at : at + frame_bytes] for at in range(0, len(content), frame_bytes)), STOP)
    assert (await client.hear_out())[1] == 1000
    assert asr.sessions[0].pcm == speech[:2_000].tobytes()


@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize("silent", [0, 1_001])
async def test_floating_point_samples_are_named_in_an_error(
    connect: Connect, speech: np.ndarray, rate: int, silent: int
) -> None:
    voice = np.interp(np.arange(0, 16_000, 16_000 / rate), np.arange(16_000), speech[:16_000] / 32_768)
    samples = np.concatenate([np.zeros(silent), voice]).astype("<f4").tobytes()
    client = await connect()
    await client.say(CONFIG, *(samples[at : at + 512] for at in range(0, len(samples), 512)))
    messages, code = await client.hear_out()
    assert (messages[-1]["error"], code) == (f"The audio is 32-bit floating point samples: {WANTED}", 1008)


@pytest.mark.parametrize("content", ["webm", "float"])
async def test_audio_that_is_not_pcm_costs_nothing(
    edge: Edge,
    http: aiohttp.ClientSession,
    encode: Encode,
    speech: np.ndarray,
    open_account: OpenAccount,
    content: str,
) -> None:
    account = await open_account(credits=1)
    audio = (speech / 32_768).astype("<f4").tobytes() if content == "float" else encode("webm", "libopus", rate=48_000)
    async with http.ws_connect(f"{edge.url}/v1/stream", headers=account.headers) as socket:
        client = Client(socket)
        await client.say(CONFIG, audio, audio)
        assert (await client.hear_out())[1] == 1008
    await account.settled(balance=1, held=0)


@pytest.mark.parametrize(
    "said",
    [
        {"sample_rate": 16_000},
        {"sample_rate": "16000", "encoding": "LINEAR16", "channels": 1},
        {"encoding": "pcm_s16le", "channels": "1"},
        {"encoding": "audio/pcm", "sample_rate": None},
    ],
)
async def test_a_config_may_say_the_format_that_is_wanted(connect: Connect, said: dict[str, Any]) -> None:
    client = await connect(**{name: str(value) for name, value in said.items() if value})
    await client.say({**CONFIG, **said})
    assert await client.hear() == {"status": "ready", "model": "fake-en"}


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"sample_rate": 44_100}, "sample_rate is '44100'"),
        ({"sample_rate": "8k"}, "sample_rate is '8k'"),
        ({"encoding": "opus"}, "encoding is 'opus'"),
        ({"encoding": "pcm_f32le"}, "encoding is 'pcm_f32le'"),
        ({"channels": 2}, "channels is '2'"),
    ],
)
async def test_a_config_or_a_query_of_another_format_is_an_error(
    connect: Connect, edge: Edge, said: dict[str, Any], named: str
) -> None:
    client = await connect()
    await client.say({**CONFIG, **said}, SECOND)
    messages, code = await client.hear_out()
    assert ([m["error"] for m in messages], code) == ([f"{named}: {WANTED}"], 1008)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await connect(**{name: str(value) for name, value in said.items()})
    assert refused.value.status == 400


def heard(pcm: bytes, frame_bytes: int) -> bytes:
    intake = Intake()
    frames = [pcm[at : at + frame_bytes] for at in range(0, len(pcm), frame_bytes)]
    return b"".join(map(intake.push, frames)) + intake.rest()


@given(arrays.arrays("<i2", st.integers(0, 3_000)), st.integers(20, 4_000))
def test_any_samples_go_through_unchanged(samples: np.ndarray, frame_bytes: int) -> None:
    assert heard(samples.tobytes(), frame_bytes) == samples.tobytes()


@given(
    st.floats(0, 8_000),
    st.floats(0, 7),
    st.floats(0, 32_767),
    st.integers(-20_000, 20_000),
    st.booleans(),
    st.integers(0, 300),
)
def test_a_tone_of_any_pitch_phase_loudness_and_offset_is_pcm(
    pitch_hz: float, phase: float, loudness: float, offset: int, is_square: bool, silent: int
) -> None:
    wave = np.sin(np.arange(3_000) * 2 * np.pi * pitch_hz / 16_000 + phase)
    tone = (np.sign(wave) if is_square else wave) * loudness + offset
    samples = np.concatenate([np.zeros(silent), tone]).clip(-32_768, 32_767).astype("<i2")
    assert heard(samples.tobytes(), 640) == samples.tobytes()


@pytest.mark.parametrize("seed", range(20))
def test_noise_and_a_voice_anywhere_are_pcm(speech: np.ndarray, seed: int) -> None:
    random = np.random.default_rng(seed)
    noise = (random.standard_normal(16_000) * 10 ** random.uniform(0, 5)).clip(-32_768, 32_767).astype("<i2")
    start = random.integers(len(speech) - 16_000)
    for samples in (noise, speech[start : start + 16_000]):
        assert heard(samples.tobytes(), 640) == samples.tobytes()


@pytest.mark.parametrize("first", [-1_025, -1_281, -3_073])
def test_samples_that_look_like_the_sync_of_an_mp3_frame_are_pcm(first: int) -> None:
    # 384 bytes a frame by its header: one period of this tone.
    period = np.linspace(-9_000, 9_000, 192).astype("<i2")
    period[:2] = first, 0x0094
    samples = np.tile(period, 20)
    assert heard(samples.tobytes(), 3_200) == samples.tobytes()
