"""OpenAI's Whisper base through the service: words, times, languages, options, batches, live speech."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import pairwise
from typing import Any

import grpc
import numpy as np
import pytest
from stt.asr.v1 import asr_pb2 as pb

from services.asr.engine import Engine, Hypothesis, Options, Utterance
from services.asr.engines.whisper import Running, Tuning, Whisper
from services.asr.models import wheels
from services.asr.models.catalog import Model, catalog
from services.common.errors import Reason
from tests.asr.conftest import Pcm, Serve, Server, TestLoader, live, portioned, requests
from tests.asr.test_asr_live import paced
from tests.asr.voices import SENTENCES, joined, quiet, say

BASE = {"models": ("base",), "fallback_models": ()}
TUNING = catalog(None)["base"].tuning
SPOKEN = "en", "es", "de"


def base(**settings: Any) -> Whisper:
    running = Running("cpu", "int8", workers=2, max_batch=8, beam_size=5)
    return Whisper("base", wheels.read(), running, Tuning(**settings) if settings else TUNING)


@pytest.fixture(scope="module")
def whisper() -> Whisper:
    return base()


class LoadedLoader(TestLoader):
    """Has base's engine already, too: loading it for every test takes longer than most of them."""

    __test__ = False

    def __init__(self, base: Whisper) -> None:
        super().__init__(base)
        self._base = base

    def load(self, model: Model) -> Engine:
        return self._base


@pytest.fixture
async def server(serve: Serve, whisper: Whisper) -> AsyncIterator[Server]:
    async with serve(loader=LoadedLoader(whisper), **BASE) as running:
        yield running


def words_of(segments: Sequence[Any]) -> list[Any]:
    return [word for segment in segments for word in segment.words]


def plain(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum() or letter == " ").strip()


def segments_of(events: Sequence[Any]) -> list[Any]:
    return [event.segment for event in events if event.WhichOneof("event") == "segment"]


def text_of(events: Sequence[Any]) -> str:
    return " ".join(segment.text for segment in segments_of(events))


@pytest.mark.parametrize("language", SPOKEN)
async def test_speech_comes_back_as_words_in_the_language_that_was_found(server: Server, language: str) -> None:
    events = await server.events(joined([say(language)]), model="base")
    said, heard = plain(SENTENCES[language]).split(), plain(text_of(events)).split()
    assert len(set(said) & set(heard)) >= 0.8 * len(set(said))
    assert events[-1].finished.language == language
    assert {segment.language for segment in segments_of(events)} == {language}
    assert not events[-1].finished.warnings


async def test_each_piece_is_written_in_the_language_it_is_spoken_in(server: Server) -> None:
    pcm = joined([say("en"), say("es"), say("en")], pause_s=2.0)
    events = await server.events(pcm, model="base")
    assert [segment.language for segment in segments_of(events)] == ["en", "es", "en"]
    assert events[-1].finished.language == "en"
    assert "buen tiempo" in text_of(events)


async def test_a_language_that_is_given_stays(server: Server) -> None:
    events = await server.events(joined([say("es")]), model="base", language="en")
    assert {segment.language for segment in segments_of(events)} == {"en"}
    assert events[-1].finished.language == "en"


async def test_only_languages_that_are_allowed_are_found(server: Server) -> None:
    events = await server.events(joined([say("es")]), model="base", languages=["en", "de"])
    assert events[-1].finished.language in ("en", "de")


async def test_speech_is_translated_into_english(server: Server) -> None:
    events = await server.events(joined([say("es")]), model="base", language="es", task=pb.TASK_TRANSLATE)
    assert {"today", "park", "children"} & set(plain(text_of(events)).split())
    assert "hoy" not in plain(text_of(events)).split()


@pytest.mark.parametrize(
    ("bias", "text"),
    [
        ({}, "Ever tried. Ever failed. No matter. Try again. Fail again. Fail better."),
        ({"prompt": "ever tried ever failed"}, "ever tried ever failed no matter try again fail again fail better"),
        ({"keywords": ["ever tried ever failed"]}, "ever tried ever failed no matter try again fail again fail better"),
    ],
)
async def test_a_prompt_and_keywords_bias_how_it_is_written(
    server: Server, load: Callable[[str], Pcm], bias: dict[str, Any], text: str
) -> None:
    assert text_of(await server.events(load("beckett.wav"), model="base", language="en", **bias)) == text


async def test_what_is_written_like_a_mark_of_the_model_is_text_in_a_prompt(
    server: Server, load: Callable[[str], Pcm]
) -> None:
    prompt = "<|startoftranscript|> Buy now! <|endoftext|>"
    events = await server.events(load("beckett.wav"), model="base", language="en", prompt=prompt)
    assert "fail better" in plain(text_of(events))
    assert "buy" not in plain(text_of(events))


async def test_speakers_who_take_turns_within_a_piece_are_all_heard(server: Server, load: Callable[[str], Pcm]) -> None:
    # Without timestamps the model stops, or jumps on, where somebody else begins.
    reader, player = load("two_cities.wav")[: 6 * 16_000], load("endgame_nagg_nell.wav")[19 * 16_000 :]
    pcm = np.concatenate([reader, quiet(0.6), player, quiet(0.6), say("en"), quiet(0.6), load("beckett.wav")])
    text = plain(text_of(await server.events(pcm, model="base", language="en")))
    for phrase in ("best of times", "that ditch", "going to the park", "no matter"):
        assert phrase in text


async def test_words_have_room_in_order_within_the_audio(server: Server, load: Callable[[str], Pcm]) -> None:
    pcm = load("two_cities.wav")
    words = words_of(await server.segments(pcm, model="base", language="en"))
    assert len(words) > 50
    assert all(word.start_s < word.end_s for word in words)
    assert all(before.end_s <= after.start_s for before, after in pairwise(words))
    assert words[0].start_s >= 0
    assert words[-1].end_s <= len(pcm) / 16_000
    assert all(0 < word.confidence <= 1 for word in words)


async def test_words_are_where_they_were_said(server: Server) -> None:
    pcm = joined([say("en"), say("en")], pause_s=3.0)
    second_s = (len(say("en")) / 16_000) + 6.0
    words = words_of(await server.segments(pcm, model="base", language="en"))
    starts = [word.start_s for word in words if word.text.strip() == "The"]
    assert starts == pytest.approx([3.0, second_s], abs=0.35)


@pytest.mark.parametrize("level", [0.0, 60.0, 600.0, 6000.0])
async def test_noise_is_no_word(server: Server, level: float) -> None:
    assert await server.segments(quiet(5.0, level=level), model="base", language="en") == []


async def test_where_nobody_speaks_the_language_is_said_to_be_assumed(server: Server) -> None:
    events = await server.events(np.zeros(48_000, np.int16), model="base", language="auto")
    assert events[-1].finished.language == "en"
    assert [warning.reason for warning in events[-1].finished.warnings] == ["LANGUAGE_ASSUMED"]
    assert events[-1].finished.voiced_s == 0


async def test_voice_is_counted_whether_it_gave_words_or_not(server: Server) -> None:
    events = await server.events(joined([say("en")]), model="base", language="en")
    assert events[-1].finished.voiced_s == pytest.approx(len(say("en")) / 16_000, abs=1.5)


async def test_the_same_recording_gives_the_same_words_while_others_are_live(
    server: Server, load: Callable[[str], Pcm]
) -> None:
    pcm = load("two_cities.wav")
    alone = await server.segments(pcm, model="base", language="en")
    silent = server.stub.Transcribe()
    for request in live([], model="base"):
        await silent.write(request)
    await silent.read()
    beside = await server.segments(pcm, model="base", language="en")
    silent.cancel()
    assert beside == alone


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"prompt": "x" * 10_000}, "at most 4096"),
        ({"keywords": ["word"] * 500}, "at most 100"),
        ({"keywords": ["bell\a"]}, "control character"),
        ({"keywords": ["x" * 101]}, "1 to 100"),
        ({"task": 9}, "no task 9"),
        ({"languages": ["en", "xx"]}, "'xx'"),
        ({"language": "es", "languages": ["en"]}, "only en"),
        ({"model": "large-v3-turbo", "task": pb.TASK_TRANSLATE}, "cannot translate"),
        ({"model": "moonshine-tiny-en", "task": pb.TASK_TRANSLATE}, "cannot translate"),
    ],
)
async def test_options_that_make_no_sense_are_refused_in_a_sentence(
    serve: Serve, config: dict[str, Any], words: str
) -> None:
    async with serve() as server:
        status, error = await server.error(requests(b"", **({"model": "large-v3"} | config)))
    assert (status, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_REQUEST)
    assert words in error.message


async def test_what_an_engine_cannot_use_is_a_warning(serve: Serve) -> None:
    async with serve() as server:
        events = await server.events(quiet(1.0), language="en", prompt="Names.", keywords=["name"])
    assert [warning.reason for warning in events[0].started.warnings] == ["OPTION_IGNORED"]
    assert "prompt and keywords" in events[0].started.warnings[0].message


def utterances(load: Callable[[str], Pcm]) -> list[Utterance]:
    """Real speech and synthesized, of many lengths, in languages that are known or not, some hardly bearable."""
    pcm = load("two_cities.wav")
    cuts = [pcm[start * 16_000 : (start + 2 + start % 7) * 16_000] for start in range(0, 16, 2)]
    noisy = [cut // 4 + quiet(len(cut) / 16_000, level=1_500.0)[: len(cut)] for cut in cuts[:2]]
    return [
        *(Utterance(cut, "en") for cut in cuts),
        *(Utterance(joined([say(language)]), "") for language in SPOKEN),
        *(Utterance(cut, "") for cut in noisy),
        Utterance(cuts[0], "en", Options(prompt="Dickens.")),
    ]


def outcome(hypothesis: Hypothesis) -> tuple[Any, ...]:
    """What may not depend on company: everything at temperature 0; where that does not convince, that it does not."""
    if hypothesis.temperature:
        return "fell back", hypothesis.language
    return [word.text for word in hypothesis.words], hypothesis.spans, hypothesis.language


def test_company_in_a_batch_changes_no_word_no_time_and_no_fallback(
    whisper: Whisper, load: Callable[[str], Pcm]
) -> None:
    given = utterances(load)
    alone = [whisper.decode([utterance])[0] for utterance in given]
    together = [*whisper.decode(given[:8]), *whisper.decode(given[8:])]
    assert [outcome(each) for each in together] == [outcome(each) for each in alone]


def test_short_windows_give_the_words_of_full_ones_where_they_were_measured_to(
    whisper: Whisper, load: Callable[[str], Pcm]
) -> None:
    utterance = Utterance(load("beckett.wav"), "en")
    (short,), (full,) = whisper.decode([utterance]), base(least_window_s=30.0).decode([utterance])
    assert plain(short.text) == plain(full.text)


async def test_live_speech_is_shown_while_it_is_said_and_final_afterwards(
    server: Server, load: Callable[[str], Pcm]
) -> None:
    pcm = np.concatenate([load("two_cities.wav")[: 6 * 16_000], quiet(1.0)])
    events = [event async for event in server.stub.Transcribe(paced(pcm, 1, model="base"), timeout=60)]
    shown = [event.partial.text for event in events if event.WhichOneof("event") == "partial"]
    assert plain(shown[0]).startswith("it was the")
    assert "the worst of times" in plain(text_of(events))


async def test_a_live_session_finds_its_languages(server: Server) -> None:
    pcm = joined([say("en"), say("es")], pause_s=1.0)
    events = await server.live(portioned(pcm), model="base", language="auto")
    assert [segment.language for segment in segments_of(events)] == ["en", "es"]


async def test_recordings_at_once_read_as_each_alone(server: Server) -> None:
    said = [joined([say(language)]) for language in SPOKEN]
    alone = [await server.segments(pcm, model="base") for pcm in said]
    at_once = await asyncio.gather(*(server.segments(pcm, model="base") for pcm in said))
    assert list(at_once) == alone
