"""Recordings in, words with times out: over the wire, on the real engine."""

import re
from collections.abc import Callable

import numpy as np
import pytest
from stt.asr.v1 import asr_pb2 as pb

from tests.asr.conftest import Pcm, Serve
from tests.asr.voices import quiet

DICKENS = """
It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, it was the
epoch of belief, it was the epoch of incredulity, it was the season of Light, it was the season of Darkness, it was the
spring of hope, it was the winter of despair, we had everything before us, we had nothing before us, we were all going
direct to Heaven, we were all going direct the other way - in short, the period was so far like the present period, that
some of its noisiest authorities insisted on its being received, for good or for evil, in the superlative degree of
comparison only.
"""


def spoken_words(text: str) -> list[str]:
    return re.findall("[a-z]+", text.lower())


def word_errors(reference: list[str], heard: list[str]) -> int:
    row = list(range(len(heard) + 1))
    for i, word in enumerate(reference, 1):
        previous, row = row, [i]
        for j, other in enumerate(heard, 1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (word != other)))
    return row[-1]


async def test_a_reading_of_dickens_comes_back_nearly_word_for_word(serve: Serve, load: Callable[[str], Pcm]) -> None:
    async with serve() as server:
        segments = await server.segments(load("two_cities.wav"))
    heard = spoken_words(" ".join(segment.text for segment in segments))
    assert word_errors(spoken_words(DICKENS), heard) <= 0.05 * len(spoken_words(DICKENS))


async def test_words_follow_one_another_within_the_recording(serve: Serve, load: Callable[[str], Pcm]) -> None:
    pcm = load("endgame_nagg_nell.wav")
    async with serve() as server:
        segments = await server.segments(pcm)
    assert segments
    reached = 0.0
    for segment in segments:
        assert " ".join(word.text for word in segment.words) == segment.text
        assert segment.start_s == segment.words[0].start_s
        assert segment.end_s == segment.words[-1].end_s
        assert segment.start_s < segment.end_s
        assert 0.4 <= segment.confidence <= 1
        for word in segment.words:
            assert reached <= word.start_s <= word.end_s <= len(pcm) / 16_000
            assert 0 < word.confidence <= 1
            reached = word.end_s


async def test_words_are_where_they_are_said(serve: Serve, load: Callable[[str], Pcm]) -> None:
    # The reader pauses between these phrases: what is outside the words must be silence.
    pcm = load("beckett.wav")
    async with serve() as server:
        segments = await server.segments(pcm)
    words = [word for segment in segments for word in segment.words]
    assert all(segment.timing == pb.TIMING_ALIGNED for segment in segments)
    level = np.abs(pcm.astype(float))
    said = np.zeros(len(pcm), bool)
    for word in words:
        said[int(word.start_s * 16_000) : int(word.end_s * 16_000)] = True
    loud = np.sqrt(np.convolve(level**2, np.ones(320) / 320, "same")) > 0.1 * level.max()
    assert (loud & said).sum() >= 0.98 * loud.sum()
    assert said.mean() < 0.85


async def test_shifted_audio_shifts_the_words_and_nothing_else(serve: Serve, load: Callable[[str], Pcm]) -> None:
    pcm = load("beckett.wav")
    silence = np.zeros(5 * 16_000, np.int16)
    async with serve() as server:
        plain = await server.segments(pcm)
        shifted = await server.segments(np.concatenate([silence, pcm]))
    starts = [word.start_s + 5 for segment in plain for word in segment.words]
    assert [word.start_s for segment in shifted for word in segment.words] == pytest.approx(starts, abs=0.1)


READING = spoken_words("Ever tried. Ever failed. No matter. Try again. Fail again. Fail better.")


def muted(seconds: int) -> Pcm:
    return np.zeros(seconds * 16_000, np.int16)


def hiss(seconds: int) -> Pcm:
    return (np.random.default_rng(1).standard_normal(seconds * 16_000) * 300).astype(np.int16)


@pytest.mark.parametrize("before", [muted(300), hiss(60)], ids=["muted", "hiss"])
async def test_speech_after_minutes_without_any_is_heard_from_its_first_word(
    serve: Serve, load: Callable[[str], Pcm], before: Pcm
) -> None:
    async with serve() as server:
        segments = await server.segments(np.concatenate([before, load("beckett.wav")]))
    text = " ".join(segment.text for segment in segments)
    assert spoken_words(text) == READING


@pytest.mark.parametrize("decibels", [-50, -75])
async def test_quiet_speech_is_heard(serve: Serve, load: Callable[[str], Pcm], decibels: int) -> None:
    reading = load("beckett.wav").astype(float)
    level = 32_768 * 10 ** (decibels / 20) / np.sqrt((reading**2).mean())
    async with serve() as server:
        segments = await server.segments(np.round(reading * level).astype(np.int16))
    text = " ".join(segment.text for segment in segments)
    assert word_errors(READING, spoken_words(text)) <= 1


async def test_how_the_audio_is_portioned_changes_nothing(serve: Serve, load: Callable[[str], Pcm]) -> None:
    pcm = load("beckett.wav")
    async with serve() as server:
        whole = await server.segments(pcm)
        odd = await server.segments(pcm, portion_bytes=4_097)
    words = [word for segment in whole for word in segment.words]
    again = [word for segment in odd for word in segment.words]
    assert words
    assert [(word.text, word.confidence) for word in again] == [(word.text, word.confidence) for word in words]
    # The aligner's search is not repeatable to the frame.
    assert [word.start_s for word in again] == pytest.approx([word.start_s for word in words], abs=0.1)


async def test_progress_never_falls_and_the_end_gives_the_exact_length(
    serve: Serve, load: Callable[[str], Pcm]
) -> None:
    pcm = load("two_cities.wav")
    async with serve() as server:
        events = await server.events(pcm)
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert set(kinds[1:-1]) == {"progress", "segment"}
    progress = [event.progress.processed_s for event in events if event.WhichOneof("event") == "progress"]
    assert len(progress) >= 3
    assert progress == sorted(progress)
    assert progress[-1] <= len(pcm) / 16_000
    assert events[-1].finished.samples == len(pcm)
    assert events[-1].finished.duration_s == len(pcm) / 16_000
    assert events[-1].finished.language == "en"


@pytest.mark.parametrize("times", [2, 4, 5])
async def test_what_is_said_again_and_again_is_written_as_often_with_all_that_follows(
    serve: Serve, load: Callable[[str], Pcm], times: int
) -> None:
    reading = load("beckett.wav")
    ever_tried, rest = reading[4_000:21_600], reading[25_600:]
    async with serve() as server:
        events = await server.events(np.concatenate([quiet(0.3), *[ever_tried] * times, rest]), language="en")
    text = " ".join(event.segment.text for event in events if event.WhichOneof("event") == "segment")
    following = "ever failed no matter try again fail again fail better"
    assert spoken_words(text) == [*["ever", "tried"] * times, *following.split()]
    assert not events[-1].finished.warnings


def white_noise() -> Pcm:
    return (np.random.default_rng(1).standard_normal(160_000) * 3_000).clip(-32768, 32767).astype(np.int16)


def hum() -> Pcm:
    return (np.sin(np.arange(160_000) * 2 * np.pi * 100 / 16_000) * 8_000).astype(np.int16)


def clicks() -> Pcm:
    pcm = np.zeros(160_000, np.int16)
    pcm[::8_000] = 30_000
    return pcm


def silence() -> Pcm:
    return np.zeros(160_000, np.int16)


@pytest.mark.parametrize("sound", [silence, white_noise, hum, clicks])
async def test_what_is_not_speech_gives_no_words(serve: Serve, sound: Callable[[], Pcm]) -> None:
    async with serve() as server:
        events = await server.events(sound())
    assert {event.WhichOneof("event") for event in events} == {"started", "progress", "finished"}
    assert events[-1].finished.duration_s == 10.0


@pytest.mark.parametrize("samples", [0, 1, 700])
async def test_next_to_no_audio_is_a_finished_recording(serve: Serve, samples: int) -> None:
    async with serve() as server:
        events = await server.events(np.zeros(samples, np.int16))
    assert [event.WhichOneof("event") for event in events] == ["started", "finished"]
    assert events[-1].finished.samples == samples
