"""What callers get for recordings with pauses, several tracks, damage or codecs that nobody has."""

import re

import numpy as np

from tests.edge.conftest import Edge, FakeServices
from tests.edge.fakes import segment
from tests.edge.media.muxing import RATE, Sound, mux

VOICES = np.random.default_rng(0).integers(-3_000, 3_000, 70 * RATE).astype(np.int16)
NAMED_BY_NOBODY = {"diarize": "false"}


async def test_a_pause_is_part_of_the_duration_and_not_of_the_price(edge: Edge, fakes: FakeServices) -> None:
    paused = mux("matroska", Sound(VOICES, left_out=((10, 25),)))
    answer = await edge.transcribe(paused, **NAMED_BY_NOBODY)
    assert 69.9 < answer.json["duration"] < 70.1
    assert answer.headers["X-Credits-Charged"] == "1"
    whole = await edge.transcribe(mux("matroska", Sound(VOICES)), **NAMED_BY_NOBODY)
    assert whole.headers["X-Credits-Charged"] == "2"


async def test_recognition_hears_a_late_track_where_the_video_presents_it(edge: Edge, fakes: FakeServices) -> None:
    late = mux("mp4", Sound(VOICES[: 9 * RATE], left_out=((-1, 5),)), video="mpeg4", video_s=9)
    answer = await edge.transcribe(late, **NAMED_BY_NOBODY)
    assert 8.9 < answer.json["duration"] < 9.1
    assert not np.frombuffer(fakes.asr.pcm, np.int16)[: 4 * RATE].any()
    assert np.frombuffer(fakes.asr.pcm, np.int16)[6 * RATE :].any()


async def test_several_tracks_are_heard_together_and_charged_once(edge: Edge, fakes: FakeServices) -> None:
    one, other = Sound(VOICES, left_out=((40, 70),)), Sound(VOICES, left_out=((-1, 5), (45, 70)))
    answer = await edge.transcribe(mux("matroska", one, other), **NAMED_BY_NOBODY)
    assert answer.json["warnings"] == ["The file has 2 audio tracks: tracks 1 and 2 were mixed."]
    assert answer.headers["X-Credits-Charged"] == "1"


async def test_what_is_damaged_is_told_before_what_the_services_tell(edge: Edge, fakes: FakeServices) -> None:
    fakes.asr.warnings = ["A warning of recognition."]
    damaged = mux("mp4", Sound(VOICES[: 5 * RATE], damaged=((2, 2.5),)))
    first, second = (await edge.transcribe(damaged, **NAMED_BY_NOBODY)).json["warnings"]
    assert re.fullmatch(r"Damaged audio was left out \(at least 0\.\d+ s\) at 2\.0 s\.", first)
    assert second == "A warning of recognition."


async def test_a_codec_that_is_not_supported_is_a_400_that_names_it(edge: Edge) -> None:
    answer = await edge.transcribe(mux("wav", Sound(VOICES[:RATE], "g726", 8_000)))
    assert answer.status == 400
    assert answer.json["error"].startswith("G.726 ADPCM audio is not supported")


async def test_subtitles_of_a_clip_end_with_it(edge: Edge, fakes: FakeServices) -> None:
    fakes.asr.segments = [segment(0.05, "Yes.", word_s=0.2)]
    clip = mux("wav", Sound(VOICES[: RATE * 3 // 10], "pcm_s16le", RATE))
    answer = await edge.transcribe(clip, response_format="srt", **NAMED_BY_NOBODY)
    assert answer.body.decode() == "1\n00:00:00,050 --> 00:00:00,300\nYes.\n"
