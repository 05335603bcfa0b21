"""What a client of each dialect is told, in which order."""

from itertools import pairwise
from typing import Any

import pytest
from stt.asr.v1 import asr_pb2

from tests.edge.conftest import Edge
from tests.edge.fakes import FakeLiveAsr
from tests.edge.stream.conftest import CONFIG, SECOND, STOP, Connect

CLOSING = {"text": "", "partial": "", "is_final": True}


def words(*numbers: int) -> str:
    return " ".join(f"word{number}" for number in numbers)


async def test_the_documented_dialect_is_config_ready_updates_stop_and_a_last_message(connect: Connect) -> None:
    client = await connect()
    await client.say(CONFIG)
    assert await client.hear() == {"status": "ready", "model": "fake-en"}
    await client.say(SECOND * 3, STOP)
    messages, code = await client.hear_out()
    assert [(m.get("type"), m.get("text"), m.get("partial")) for m in messages[1:]] == [
        ("partial", "", words(1)),
        ("partial", "", words(1, 2)),
        ("transcript", words(1, 2), ""),
        ("partial", "", words(3)),
        ("transcript", words(3), ""),
        (None, "", ""),
    ]
    assert messages[-1] == CLOSING
    assert code == 1000


async def test_the_sdk_dialect_is_audio_updates_an_empty_frame_and_the_whole_text(connect: Connect) -> None:
    client = await connect(model="fake-en", language="en")
    await client.say(SECOND * 3, b"")
    messages, code = await client.hear_out()
    assert [(m["type"], m["text"], m.get("partial")) for m in messages] == [
        ("partial", words(1), None),
        ("partial", words(1, 2), None),
        ("transcript", words(1, 2), None),
        ("partial", words(3), None),
        ("transcript", words(3), None),
        ("final", words(1, 2, 3), None),
    ]
    last = messages[-1]
    assert (last["final"], last["is_final"], last["duration"], last["model"]) == (True, True, 3.0, "fake-en")
    assert code == 1000


async def test_words_of_a_script_without_spaces_are_told_without_spaces(connect: Connect, asr: FakeLiveAsr) -> None:
    asr.word = "+字"
    page, sdk = await connect(), await connect(model="fake-en")
    await page.say(CONFIG, SECOND * 3, STOP)
    await sdk.say(SECOND * 3, b"")
    (shown, _), (streamed, _) = await page.hear_out(), await sdk.hear_out()
    assert [m["text"] or m["partial"] for m in shown[1:-1]] == ["字1", "字1字2", "字1字2", "字3", "字3"]
    assert [m["text"] for m in streamed] == ["字1", "字1字2", "字1字2", "字3", "字3", "字1字2字3"]


@pytest.mark.parametrize("frames", [[CONFIG, SECOND * 4, STOP], [SECOND * 4, b""], [SECOND * 4, STOP]])
async def test_neither_flag_is_true_before_the_last_message(connect: Connect, frames: list[Any]) -> None:
    client = await connect(model="fake-en")
    await client.say(*frames)
    messages, code = await client.hear_out()
    assert [bool(m.get("final") or m.get("is_final")) for m in messages] == [False] * (len(messages) - 1) + [True]
    assert code == 1000


async def test_a_transcript_has_its_times_words_and_language(connect: Connect) -> None:
    client = await connect()
    await client.say(CONFIG, SECOND * 2)
    message = await client.hear_until(type="transcript")
    assert message == {
        "type": "transcript",
        "text": words(1, 2),
        "partial": "",
        "start": 0.0,
        "end": 2.0,
        "confidence": 0.9,
        "words": [
            {"word": "word1", "start": 0.0, "end": 1.0, "confidence": 0.9},
            {"word": "word2", "start": 1.0, "end": 2.0, "confidence": 0.9},
        ],
        "language": "en",
    }


async def test_a_transcript_has_the_language_that_was_heard_also_where_it_was_left_open(
    connect: Connect, asr: FakeLiveAsr
) -> None:
    asr.language = "sv"
    client = await connect()
    await client.say({"model": "fake-en"}, SECOND * 2)
    assert (await client.hear_until(type="transcript"))["language"] == "sv"


async def test_a_language_that_recognition_does_not_tell_is_not_claimed(connect: Connect, asr: FakeLiveAsr) -> None:
    asr.language = ""
    client = await connect()
    await client.say(CONFIG, SECOND * 2)
    assert "language" not in await client.hear_until(type="transcript")


async def test_nothing_is_sent_before_the_first_frame(connect: Connect, asr: FakeLiveAsr) -> None:
    client = await connect()
    await client.socket.ping()
    await client.say(CONFIG)
    assert (await client.hear() or {}).get("status") == "ready"
    assert len(asr.sessions) == 1


async def test_audio_that_is_sent_before_ready_is_kept(connect: Connect, asr: FakeLiveAsr) -> None:
    client = await connect()
    await client.say(CONFIG, SECOND, SECOND, STOP)
    messages, _ = await client.hear_out()
    assert messages[0]["status"] == "ready"
    assert asr.sessions[0].pcm == SECOND * 2


async def test_a_config_beats_the_query(connect: Connect, asr: FakeLiveAsr) -> None:
    client = await connect(model="small", language="de")
    await client.say({"model": "fake-en", "language": "pt-BR"})
    config = (await asr.session()).config
    assert (config.model, config.language) == ("fake-en", "pt")


async def test_the_query_stands_where_a_config_says_nothing(connect: Connect, asr: FakeLiveAsr) -> None:
    client = await connect(model="small", language="DE")
    await client.say({"language": None, "sample_rate": 16_000})
    config = (await asr.session()).config
    assert (config.model, config.language) == ("small", "de")


async def test_without_any_config_recognition_chooses_the_model_and_the_language(
    connect: Connect, asr: FakeLiveAsr
) -> None:
    client = await connect()
    await client.say(SECOND)
    config = (await asr.session()).config
    assert (config.model, config.language) == ("", "auto")
    assert (config.live.interim_results, config.live.endpoint_silence_ms) == (True, 0)


async def test_what_the_caller_should_know_is_said_when_it_begins_and_to_an_sdk_at_the_end(
    connect: Connect, asr: FakeLiveAsr
) -> None:
    asr.warnings, asr.last_warnings = ["It is another model."], ["Something was not understood."]
    page, sdk = await connect(), await connect()
    await page.say(CONFIG, SECOND, STOP)
    assert (await page.hear_until(status="ready"))["warnings"] == ["It is another model."]
    assert (await page.hear_until(is_final=True))["warnings"] == ["Something was not understood."]
    await sdk.say(SECOND, b"")
    assert (await sdk.hear_until(type="final"))["warnings"] == [*asr.warnings, *asr.last_warnings]


async def test_what_biases_recognition_may_stand_in_a_config(connect: Connect, asr: FakeLiveAsr) -> None:
    client = await connect()
    await client.say(
        {
            "prompt": "Chapter one.\nNagg and Nell.",
            "keywords": ["Nagg", "Paris, Texas"],
            "task": "translate",
            "languages": ["es", "PT-br"],
            "endpoint_silence_ms": 900,
        }
    )
    assert await client.hear() == {"status": "ready", "model": "fake-en"}
    config = (await asr.session()).config
    assert (config.prompt, list(config.keywords)) == ("Chapter one.\nNagg and Nell.", ["Nagg", "Paris, Texas"])
    assert (config.task, list(config.languages)) == (asr_pb2.TASK_TRANSLATE, ["es", "pt"])
    assert config.live.endpoint_silence_ms == 900


async def test_it_may_stand_in_the_query_and_a_config_beats_it(connect: Connect, asr: FakeLiveAsr) -> None:
    query = {"prompt": "Nagg.", "keywords": "a,b", "languages": "es,en", "endpoint_silence_ms": "300"}
    client = await connect(**query)
    await client.say({"keywords": "c, d", "endpoint_silence_ms": 400})
    config = (await asr.session()).config
    assert (config.prompt, list(config.keywords), list(config.languages)) == ("Nagg.", ["c", "d"], ["es", "en"])
    assert config.live.endpoint_silence_ms == 400


async def test_an_unknown_field_of_a_config_or_a_query_is_named_in_a_warning(connect: Connect, edge: Edge) -> None:
    page, sdk = await connect(hotwords="x"), await connect(token=edge.key, hotwords="x")
    await page.say({"interim": True, "response_format": "json"})
    assert (await page.hear_until(status="ready"))["warnings"] == [
        "Unknown fields were ignored: 'hotwords'.",
        "Unknown fields were ignored: 'interim', 'response_format'.",
    ]
    await sdk.say(SECOND, b"")
    assert (await sdk.hear_until(type="final"))["warnings"] == ["Unknown fields were ignored: 'hotwords'."]


@pytest.mark.parametrize("opening", [[CONFIG], []])
async def test_odd_bytes_belong_to_the_next_frames_first_sample(
    connect: Connect, asr: FakeLiveAsr, opening: list[Any]
) -> None:
    pcm = bytes(range(256)) * 125
    client = await connect()
    await client.say(*opening, pcm[:1], pcm[1:4_000], pcm[4_000:4_777], pcm[4_777:], STOP)
    await client.hear_out()
    assert asr.sessions[0].pcm == pcm


async def test_an_empty_frame_means_nothing_to_the_documented_dialect(connect: Connect) -> None:
    client = await connect()
    await client.say(CONFIG, b"", SECOND, b"", STOP)
    messages, code = await client.hear_out()
    assert messages[-2]["text"] == words(1)
    assert (messages[-1], code) == (CLOSING, 1000)


async def test_a_stop_as_the_first_frame_ends_an_empty_session(connect: Connect, asr: FakeLiveAsr) -> None:
    client = await connect()
    await client.say(STOP)
    assert await client.hear_out() == ([CLOSING], 1000)
    assert asr.sessions == []


async def test_an_empty_first_frame_ends_an_empty_session_of_the_sdks(connect: Connect, asr: FakeLiveAsr) -> None:
    client = await connect()
    await client.say(b"")
    assert await client.hear_out() == ([{"type": "final", "final": True, "is_final": True, "text": ""}], 1000)
    assert asr.sessions == []


async def test_a_session_without_audio_ends_well(connect: Connect) -> None:
    client = await connect()
    await client.say(CONFIG, STOP)
    messages, code = await client.hear_out()
    assert (messages[1:], code) == ([CLOSING], 1000)


async def test_what_comes_after_the_stop_is_ignored(connect: Connect, asr: FakeLiveAsr) -> None:
    asr.proceed.clear()
    client = await connect()
    await client.say(CONFIG, SECOND, STOP, STOP, SECOND, "not JSON", CONFIG)
    await client.hear_until(partial=words(1))
    asr.proceed.set()
    messages, code = await client.hear_out()
    assert (messages[-1], code) == (CLOSING, 1000)
    assert asr.sessions[0].pcm == SECOND


async def test_finals_are_never_repeated_and_their_times_never_fall(connect: Connect) -> None:
    client = await connect()
    await client.say(CONFIG, *[SECOND[:3_200]] * 101, STOP)
    messages, _ = await client.hear_out()
    finals = [m for m in messages if m.get("type") == "transcript"]
    assert " ".join(m["text"] for m in finals) == words(*range(1, 11))
    assert all(before["end"] <= after["start"] for before, after in pairwise(finals))


async def test_no_message_but_the_last_of_an_sdk_is_longer_than_64_kib(connect: Connect, asr: FakeLiveAsr) -> None:
    asr.words_per_s = 3_000
    page, sdk = await connect(), await connect()
    await page.say(CONFIG, SECOND, STOP)
    await sdk.say(SECOND, b"")
    (shown, _), (streamed, _) = await page.hear_out(), await sdk.hear_out()
    whole = " ".join(m["text"] for m in shown if m.get("type") == "transcript")
    assert len(whole.split()) == 3_000
    assert whole == streamed[-1]["text"]
    assert max(page.sizes + sdk.sizes[:-1]) <= 65_536
