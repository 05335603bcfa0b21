"""The true Whisper engine on a small true model: words, times, languages, batches, live speech."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import grpc
import numpy as np
import pytest
from stt.asr.v1 import asr_pb2 as pb

from services.asr.engine import Hypothesis, Utterance
from services.asr.engines.whisper import Running, Whisper
from services.common.languages import LANGUAGES
from tests.asr.conftest import Pcm, Serve, live, portioned
from tests.asr.digits import DIGITS, MODELS, sayings, spoken
from tests.models.evaluation import edits

WHISPER = {"model_dir": MODELS, "models": ("digits",), "fallback_model": ""}


def noise(seconds: float, seed: int = 0, level: float = 1500.0) -> Pcm:
    samples = np.random.default_rng(seed).standard_normal(round(seconds * 16_000)) * level
    return samples.astype(np.int16)


def words_of(segments: Sequence[Any]) -> list[Any]:
    return [word for segment in segments for word in segment.words]


@pytest.fixture(scope="module")
def engine() -> Whisper:
    return Whisper("digits", DIGITS, Running("cpu", "int8", workers=2, max_batch=16, beam_size=5))


# How well the model does is in its card; more errors than these are the service's.
@pytest.mark.parametrize(("language", "most"), [("en", 0.05), ("de", 0.1), ("es", 0.1)])
async def test_what_voices_say_that_the_model_never_heard_comes_back_with_few_errors(
    serve: Serve, language: str, most: float
) -> None:
    wrong = total = 0
    async with serve(**WHISPER) as server:
        for saying in sayings(language, 20):
            words = words_of(await server.segments(saying.pcm, model="digits", language=language))
            wrong += edits([word.text for word in words], saying.words)
            total += len(saying.words)
    assert wrong / total <= most


async def test_words_are_where_they_were_said(serve: Serve) -> None:
    onsets, ends = [], []
    async with serve(**WHISPER) as server:
        for saying in sayings("en", 20, seed=1):
            words = words_of(await server.segments(saying.pcm, model="digits", language="en"))
            if [word.text for word in words] == list(saying.words):
                onsets += [abs(word.start_s - at[0] / 16_000) for word, at in zip(words, saying.spans, strict=True)]
                ends += [abs(word.end_s - at[1] / 16_000) for word, at in zip(words, saying.spans, strict=True)]
    assert len(onsets) >= 80
    assert median(onsets) <= 0.08
    assert median(ends) <= 0.08


@pytest.mark.parametrize("digit", range(10))
async def test_a_word_said_alone_is_where_the_voice_was(serve: Serve, digit: int) -> None:
    saying = spoken("en", [digit])
    async with serve(**WHISPER) as server:
        (word,) = words_of(await server.segments(saying.pcm, model="digits", language="en"))
    assert (word.start_s, word.end_s) == pytest.approx([sample / 16_000 for sample in saying.spans[0]], abs=0.15)


async def test_no_word_is_stretched_over_a_pause(serve: Serve) -> None:
    saying = spoken("en", [1, 2, 3, 4], gap_s=1.0)
    async with serve(**WHISPER) as server:
        words = words_of(await server.segments(saying.pcm, model="digits", language="en"))
    assert [word.text for word in words] == ["one", "two", "three", "four"]
    assert max(word.end_s - word.start_s for word in words) < 0.8
    assert min(after.start_s - word.end_s for word, after in pairwise(words)) > 0.5


async def test_times_are_measured_by_the_model_itself(serve: Serve) -> None:
    async with serve(**WHISPER) as server:
        segments = await server.segments(spoken("de", [7, 8]).pcm, model="digits", language="de")
    assert {segment.timing for segment in segments} == {1}


@pytest.mark.parametrize("language", ["en", "de", "es"])
async def test_the_language_is_found_by_the_first_speech(serve: Serve, language: str) -> None:
    async with serve(**WHISPER) as server:
        events = await server.events(spoken(language, [1, 7, 5, 8]).pcm, model="digits", language="auto")
    assert events[-1].finished.language == language
    assert not events[-1].finished.warnings


async def test_a_recording_keeps_the_language_it_began_with(serve: Serve) -> None:
    pcm = np.concatenate([spoken("es", [1, 7, 5, 8]).pcm, noise(3.0, level=60.0), spoken("de", [1, 7, 5]).pcm])
    async with serve(**WHISPER) as server:
        events = await server.events(pcm, model="digits", language="auto")
    assert events[-1].finished.language == "es"
    assert len([event for event in events if event.WhichOneof("event") == "segment"]) >= 2


async def test_where_nobody_speaks_nothing_is_heard_and_the_language_is_said_to_be_assumed(serve: Serve) -> None:
    async with serve(**WHISPER) as server:
        events = await server.events(np.zeros(48_000, np.int16), model="digits", language="auto")
    assert [event.WhichOneof("event") for event in events if event.WhichOneof("event") == "segment"] == []
    assert events[-1].finished.language == "en"
    assert [warning.reason for warning in events[-1].finished.warnings] == ["LANGUAGE_ASSUMED"]


@pytest.mark.parametrize("level", [60.0, 600.0, 6000.0])
async def test_noise_is_no_word(serve: Serve, level: float) -> None:
    async with serve(**WHISPER) as server:
        assert await server.segments(noise(5.0, level=level), model="digits", language="en") == []


def chunks() -> list[Utterance]:
    """Speech of all kinds: three languages, known or not, from one word to ten seconds, good and hardly bearable."""
    utterances = []
    for number, language in enumerate(["en", "de", "es"]):
        for saying in sayings(language, 70, digits=(1, 9), seed=number):
            named = language if len(utterances) % 3 else ""
            loud = noise(len(saying.pcm) / 16_000, len(utterances), level=4000.0 if len(utterances) % 10 == 0 else 0.0)
            utterances.append(Utterance((saying.pcm // 2 + loud)[:160_000], named))
    return utterances


def outcome(hypothesis: Hypothesis) -> tuple[Any, ...]:
    """What may not depend on company: everything at temperature 0; where that does not convince, that it does not."""
    if hypothesis.temperature:
        return "fell back", hypothesis.language
    return [word.text for word in hypothesis.words], hypothesis.spans, hypothesis.language


def test_company_in_a_batch_changes_no_word_no_time_and_no_fallback(engine: Whisper) -> None:
    utterances = chunks()
    alone = [engine.decode([utterance])[0] for utterance in utterances]
    order = np.random.default_rng(0).permutation(len(utterances)).tolist()
    together: dict[int, Hypothesis] = {}
    for start in range(0, len(order), engine.max_batch):
        places = order[start : start + engine.max_batch]
        together |= zip(places, engine.decode([utterances[place] for place in places]), strict=True)
    assert len(utterances) >= 200
    assert [outcome(together[place]) for place in range(len(utterances))] == [outcome(each) for each in alone]
    differences = [
        abs(one.confidence - other.confidence)
        for place, each in enumerate(alone)
        if not each.temperature
        for one, other in zip(each.words, together[place].words, strict=True)
    ]
    assert max(differences) < 0.01


async def test_recordings_transcribed_at_once_in_batches_read_as_each_alone(serve: Serve) -> None:
    async with serve(**WHISPER, max_batch=8) as server:
        said = [saying.pcm for saying in sayings("en", 8, seed=5)]
        alone = [await server.segments(pcm, model="digits", language="en") for pcm in said]
        at_once = await asyncio.gather(*(server.segments(pcm, model="digits", language="en") for pcm in said))
    assert list(at_once) == alone


async def test_live_speech_is_shown_while_it_is_said_and_final_as_in_a_recording(serve: Serve) -> None:
    saying = spoken("en", [3, 1, 4, 1, 5])
    pcm = np.concatenate([saying.pcm, noise(1.0, level=60.0)])
    middle = saying.spans[3][0]
    async with serve(**WHISPER) as server:
        call = server.stub.Transcribe(timeout=60)
        for request in live(portioned(pcm[:middle]), model="digits"):
            await call.write(request)
        while (event := await call.read()).WhichOneof("event") != "partial":
            pass
        shown = event.partial.text
        for portion in portioned(pcm[middle:]):
            await call.write(pb.TranscribeRequest(audio=portion))
        await call.done_writing()
        segments = []
        while (event := await call.read()) is not grpc.aio.EOF:
            if event.WhichOneof("event") == "segment":
                segments.append(event.segment.text)
    # The last word of interim text may have been cut off.
    assert shown.split()[0] == saying.words[0]
    assert " ".join(segments) == " ".join(saying.words)


async def test_a_live_session_finds_its_language(serve: Serve) -> None:
    pcm = np.concatenate([spoken("de", [3, 1, 4, 5]).pcm, noise(1.0, level=60.0)])
    async with serve(**WHISPER) as server:
        events = await server.live(pcm, model="digits", language="auto")
    assert events[-1].finished.language == "de"


async def test_a_model_of_a_folder_is_listed_with_whispers_languages(serve: Serve) -> None:
    async with serve(**WHISPER) as server:
        listed = await server.models()
    assert listed["digits"].available
    assert list(listed["digits"].languages) == list(LANGUAGES)
