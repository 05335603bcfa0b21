"""Who speaks in a live session: told after the words, corrected where it turns out otherwise, never in their way."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from services.common.errors import Reason, SttError
from services.edge.stream.speakers import MAX_OPEN_WORDS
from tests.edge.conftest import Answer, Edge, StartEdge
from tests.edge.fakes import FakeDiarization, FakeLiveAsr, FakeLiveDiarize
from tests.edge.stream.conftest import CONFIG, SECOND, STOP, Client, Connect
from tests.edge.stream.test_stream_upgrade import UPGRADE

SPEAKERS = {**CONFIG, "diarize": True}
CLOSING = {"text": "", "partial": "", "is_final": True}
Message = dict[str, Any]


@pytest.fixture
async def edge(asr_address: str, diarize_address: str, start_edge: StartEdge) -> Edge:
    """An edge in front of recognition and diarization, with default settings."""
    return await start_edge(asr_address=asr_address, diarize_address=diarize_address)


def named(*speakers: tuple[int, int]) -> Message:
    """The message that names the speakers of segments: (id, speaker)."""
    segments = [{"id": number, "speaker": f"Speaker {speaker}"} for number, speaker in speakers]
    return {"type": "speakers", "text": "", "partial": "", "segments": segments}


def warned(warning: str) -> Message:
    """The message that says what is wrong, whatever is being spoken meanwhile."""
    return {"type": "speakers", "text": "", "segments": [], "warning": warning}


def warnings(messages: Sequence[Message]) -> list[Message]:
    """The messages about speakers, without the interim text that they leave standing."""
    shown = ""
    found = []
    for message in messages:
        if message.get("type") == "speakers":
            assert message["partial"] == shown
            found.append({key: value for key, value in message.items() if key != "partial"})
        shown = message.get("partial", shown)
    return found


def of_type(messages: Sequence[Message], kind: str) -> list[Message]:
    return [message for message in messages if message.get("type") == kind]


def ids(messages: Sequence[Message]) -> list[int]:
    return [message["id"] for message in of_type(messages, "transcript")]


async def talk(
    client: Client, diarize: FakeLiveDiarize, seconds: int, opening: Message | None = None
) -> FakeDiarization:
    """Say so much, of which every two seconds are a segment of two words, and hear all of it."""
    await client.say(opening or SPEAKERS, SECOND * seconds)
    for number in range(1, seconds // 2 + 1):
        await client.hear_until(type="transcript", id=number)
    return await diarize.session()


async def test_finals_are_numbered_and_go_out_before_diarization_has_said_anything(
    connect: Connect, diarize: FakeLiveDiarize
) -> None:
    client = await connect()
    session = await talk(client, diarize, 6)
    assert ids(client.messages) == [1, 2, 3]
    assert of_type(client.messages, "speakers") == []
    assert not session.ended.is_set()


async def test_diarization_hears_what_recognition_hears(
    connect: Connect, asr: FakeLiveAsr, diarize: FakeLiveDiarize
) -> None:
    client = await connect()
    frames = [bytes([number]) * 3_201 for number in range(100)]
    await client.say({**SPEAKERS, "speakers": 3}, *frames, STOP)
    await client.hear_out()
    assert diarize.sessions[0].pcm == asr.sessions[0].pcm == b"".join(frames)
    assert diarize.sessions[0].config.HasField("live")
    assert diarize.sessions[0].config.speakers == 3


async def test_a_segment_is_named_when_diarization_has_looked_at_all_of_it(
    connect: Connect, diarize: FakeLiveDiarize
) -> None:
    client = await connect()
    session = await talk(client, diarize, 4)
    session.say(0, 1.9, (0, 1.9, 1))
    session.say(0, 2, (0, 2, 1))
    assert await client.hear() == named((1, 1))
    session.say(2, 4, (2.5, 4, 2))
    assert await client.hear() == named((2, 2))


async def test_a_segment_that_diarization_was_faster_with_is_named_at_once(
    connect: Connect, asr: FakeLiveAsr, diarize: FakeLiveDiarize
) -> None:
    client = await connect()
    session = await talk(client, diarize, 2)
    session.say(0, 4, (0, 2, 1), (2, 4, 2))
    await client.hear_until(type="speakers")
    await client.say(SECOND * 2)
    await client.hear_until(type="transcript", id=2)
    assert await client.hear() == named((2, 2))


async def test_who_was_named_wrongly_is_corrected_and_who_was_not_is_not_told_of_again(
    connect: Connect, diarize: FakeLiveDiarize
) -> None:
    client = await connect()
    session = await talk(client, diarize, 6)
    session.say(0, 4, (0, 2, 1), (2, 4, 1))
    assert await client.hear() == named((1, 1), (2, 1))
    session.say(0, 6, (0, 2, 1), (2, 4, 2), (4, 6, 1))
    assert await client.hear() == named((2, 2), (3, 1))


async def test_a_change_inside_a_segment_is_told_by_the_number_of_words(
    connect: Connect, asr: FakeLiveAsr, diarize: FakeLiveDiarize
) -> None:
    asr.words_per_s = 4
    client = await connect()
    session = await talk(client, diarize, 2)
    session.say(0, 2, (0, 1.25, 7), (1.25, 2, 2))
    parts = [{"speaker": "Speaker 1", "words": 5}, {"speaker": "Speaker 2", "words": 3}]
    told = {"id": 1, "speaker": "Speaker 1", "parts": parts}
    assert await client.hear() == {"type": "speakers", "text": "", "partial": "", "segments": [told]}


async def test_speakers_are_numbered_as_they_are_first_named_and_keep_their_number(
    connect: Connect, diarize: FakeLiveDiarize
) -> None:
    client = await connect()
    session = await talk(client, diarize, 6)
    session.say(0, 2, (0, 2, 3))
    assert await client.hear() == named((1, 1))
    session.say(2, 6, (2, 4, 1), (4, 6, 3))
    assert await client.hear() == named((2, 2), (3, 1))


async def test_after_the_stop_the_last_speakers_come_before_the_last_message(
    connect: Connect, diarize: FakeLiveDiarize
) -> None:
    diarize.proceed.clear()
    client = await connect()
    session = await talk(client, diarize, 2)
    await client.say(SECOND, STOP)
    await client.hear_until(type="transcript", id=2)
    session.say(0, 3, (0, 3, 1))
    diarize.proceed.set()
    messages, code = await client.hear_out()
    assert (messages[-2:], code) == ([named((1, 1), (2, 1)), CLOSING], 1000)


async def test_a_recognition_that_is_slower_than_diarization_loses_no_speaker(
    connect: Connect, asr: FakeLiveAsr, diarize: FakeLiveDiarize
) -> None:
    asr.proceed.clear()
    client = await connect()
    session = await talk(client, diarize, 2)
    session.say(0, 3, (0, 2, 1), (2, 3, 2))
    await client.say(SECOND, STOP)
    await session.ended.wait()
    asr.proceed.set()
    messages, _ = await client.hear_out()
    told = [segment for message in of_type(messages, "speakers") for segment in message["segments"]]
    assert told == named((1, 1), (2, 2))["segments"]
    assert messages[-1] == CLOSING


async def test_an_sdk_asks_by_the_query_and_gets_speakers_and_warnings(
    connect: Connect, diarize: FakeLiveDiarize
) -> None:
    diarize.warnings = ["Two voices are one."]
    client = await connect(model="fake-en", diarize="yes", speakers="2")
    await client.say(SECOND * 2)
    await client.hear_until(type="transcript", id=1)
    session = await diarize.session()
    session.say(0, 2, (0, 2, 1))
    told = [{"id": 1, "speaker": "Speaker 1"}]
    assert await client.hear() == {"type": "speakers", "text": "", "segments": told}
    await client.say(b"")
    assert await client.hear() == {"type": "speakers", "text": "", "segments": [], "warning": "Two voices are one."}
    last = await client.hear()
    assert last is not None
    assert (last["type"], last["text"], last["warnings"]) == ("final", "word1 word2", ["Two voices are one."])
    assert session.config.speakers == 2


@pytest.mark.parametrize("value", [True, "true", "YES", "1"])
async def test_a_config_asks_in_every_way_that_an_upload_may(
    connect: Connect, diarize: FakeLiveDiarize, value: object
) -> None:
    client = await connect(diarize="false")
    await talk(client, diarize, 2, {**CONFIG, "diarize": value, "speakers": "4"})
    assert diarize.sessions[0].config.speakers == 4


@pytest.mark.parametrize(("query", "opening"), [({}, CONFIG), ({"diarize": "1"}, {**CONFIG, "diarize": False})])
async def test_who_does_not_ask_for_speakers_is_told_nothing_more_than_before(
    connect: Connect, diarize: FakeLiveDiarize, query: dict[str, str], opening: Message
) -> None:
    client = await connect(**query)
    await client.say(opening, SECOND * 3, STOP)
    messages, code = await client.hear_out()
    assert [sorted(m) for m in messages[1:]] == [
        ["partial", "text", "type"],
        ["partial", "text", "type"],
        ["confidence", "end", "language", "partial", "start", "text", "type", "words"],
        ["partial", "text", "type"],
        ["confidence", "end", "language", "partial", "start", "text", "type", "words"],
        ["is_final", "partial", "text"],
    ]
    assert code == 1000
    assert diarize.sessions == []


@pytest.mark.parametrize("query", ["?diarize=maybe", "?speakers=21", "?diarize=true&speakers=two"])
async def test_a_wrong_query_is_a_400_even_while_recognition_is_down(start_edge: StartEdge, query: str) -> None:
    edge = await start_edge(asr_address="127.0.0.1:1")
    answer: Answer = await edge.request("GET", f"/v1/stream{query}", headers=UPGRADE)
    assert answer.status == 400
    assert "use" in answer.json["error"]


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ({"diarize": "maybe"}, "true, 1, yes"),
        ({"diarize": 1}, "must be true or false"),
        ({"diarize": [True]}, "must be true or false"),
        ({"speakers": 21}, "1 to 20"),
        ({"speakers": -1}, "1 to 20"),
        ({"speakers": True}, "1 to 20"),
        ({"speakers": 2.5}, "must be a whole number"),
    ],
)
async def test_a_wrong_config_is_an_error_and_1008(
    connect: Connect, diarize: FakeLiveDiarize, field: Message, hint: str
) -> None:
    client = await connect()
    await client.say({**CONFIG, **field})
    messages, code = await client.hear_out()
    assert hint in messages[0]["error"]
    assert next(iter(field)) in messages[0]["error"]
    assert code == 1008
    assert diarize.sessions == []


async def test_without_diarization_the_session_is_what_it_would_be_and_says_once_that_nobody_is_named(
    connect: Connect, start_edge: StartEdge, asr_address: str
) -> None:
    client = await connect(await start_edge(asr_address=asr_address, diarize_address="127.0.0.1:1"))
    await client.say(SPEAKERS, SECOND * 4, STOP)
    messages, code = await client.hear_out()
    assert warnings(messages) == [warned("No speakers are named: The diarization service cannot be reached.")]
    assert ids(messages) == [1, 2]
    assert (messages[0]["status"], messages[-1], code) == ("ready", CLOSING, 1000)


async def test_a_diarization_that_is_full_says_so_after_ready(
    connect: Connect, asr: FakeLiveAsr, diarize: FakeLiveDiarize
) -> None:
    diarize.refusal = SttError(Reason.OVERLOADED, "As many sessions as it takes.", retry_after_s=1)
    page, sdk = await connect(), await connect(diarize="true")
    await page.say(SPEAKERS, SECOND * 2)
    await sdk.say(SECOND)
    warning = "No speakers are named: As many sessions as it takes."
    await page.hear_until(**warned(warning))
    assert page.messages[0]["status"] == "ready"
    await page.say(SECOND * 2, STOP)
    messages, code = await page.hear_out()
    assert ids(messages) == [1, 2]
    assert len(of_type(messages, "speakers")) == 1
    assert code == 1000
    await sdk.hear_until(warning=warning)
    await sdk.say(b"")
    assert (await sdk.hear_until(type="final"))["warnings"] == [warning]


async def test_a_diarization_that_dies_leaves_what_it_named_and_says_that_no_more_will_come(
    connect: Connect, diarize: FakeLiveDiarize
) -> None:
    client = await connect()
    session = await talk(client, diarize, 6)
    session.say(0, 3, (0, 3, 1))
    assert await client.hear() == named((1, 1))
    session.fail(SttError(Reason.INTERNAL, "It broke."))
    # What it had begun to look at; nothing was known of the third.
    assert await client.hear() == named((2, 1))
    assert await client.hear() == {"partial": "", **warned("No more speakers are named: It broke.")}
    await client.say(SECOND * 2, STOP)
    messages, code = await client.hear_out()
    assert ids(messages) == [1, 2, 3, 4]
    assert len(of_type(messages, "speakers")) == 3
    assert (messages[-1], code) == (CLOSING, 1000)


async def test_a_diarization_that_hangs_keeps_the_end_of_a_session_only_for_a_while(
    connect: Connect, start_edge: StartEdge, asr_address: str, diarize_address: str, diarize: FakeLiveDiarize
) -> None:
    diarize.proceed.clear()
    edge = await start_edge(asr_address=asr_address, diarize_address=diarize_address, stream_speakers_wait_s=0.2)
    client = await connect(edge)
    session = await talk(client, diarize, 4)
    session.say(0, 3, (0, 3, 1))
    await client.hear_until(type="speakers")
    await client.say(STOP)
    messages, code = await client.hear_out()
    assert messages[-3:] == [
        named((2, 1)),
        {
            "partial": "",
            **warned("No more speakers are named: The diarization service does not keep up with this session."),
        },
        CLOSING,
    ]
    assert code == 1000
    await asyncio.wait_for(session.ended.wait(), 1)


async def test_a_diarization_that_hangs_does_not_make_the_end_later_than_recognition_may_make_it(
    connect: Connect, start_edge: StartEdge, asr_address: str, diarize_address: str, diarize: FakeLiveDiarize
) -> None:
    diarize.proceed.clear()
    addresses = {"asr_address": asr_address, "diarize_address": diarize_address}
    client = await connect(await start_edge(**addresses, stream_speakers_wait_s=600, stream_finish_s=0.5))
    await client.say(SPEAKERS, SECOND, STOP)
    messages, code = await client.hear_out()
    assert "does not keep up" in messages[-2]["warning"]
    assert (messages[-1], code) == (CLOSING, 1000)


async def test_a_diarization_that_takes_nothing_holds_nobody_back_and_is_given_up(
    connect: Connect, asr: FakeLiveAsr, diarize: FakeLiveDiarize
) -> None:
    diarize.taking.clear()
    client = await connect()
    await client.say(SPEAKERS)
    session = await diarize.session()
    hearing = asyncio.create_task(client.hear_out())
    for _ in range(200):
        await client.say(SECOND)
    await asyncio.wait_for(session.ended.wait(), 5)
    await client.say(STOP)
    messages, code = await hearing
    assert warnings(messages) == [
        warned("No speakers are named: The diarization service does not keep up with this session.")
    ]
    assert ids(messages) == list(range(1, 101))
    assert (messages[-1], code) == (CLOSING, 1000)
    assert asr.sessions[0].pcm == SECOND * 200


async def test_where_diarization_hears_no_voices_it_is_said(connect: Connect, diarize: FakeLiveDiarize) -> None:
    client = await connect()
    session = await talk(client, diarize, 2)
    session.say(0, 2)
    await client.say(STOP)
    messages, _ = await client.hear_out()
    assert messages[-2:] == [{"partial": "", **warned("No speakers are named: diarization heard no voices.")}, CLOSING]


async def test_where_nothing_was_said_nobody_waits_for_speakers(
    connect: Connect, start_edge: StartEdge, asr_address: str, diarize_address: str, diarize: FakeLiveDiarize
) -> None:
    diarize.proceed.clear()
    addresses = {"asr_address": asr_address, "diarize_address": diarize_address}
    client = await connect(await start_edge(**addresses, stream_speakers_wait_s=600))
    await client.say(SPEAKERS, STOP)
    messages, code = await client.hear_out()
    assert (messages[1:], code) == ([CLOSING], 1000)


@pytest.mark.parametrize("opening", [[STOP], [b""]])
async def test_an_empty_session_asks_nobody(connect: Connect, diarize: FakeLiveDiarize, opening: list[Any]) -> None:
    client = await connect(diarize="true")
    await client.say(*opening)
    messages, code = await client.hear_out()
    assert (len(messages), code) == (1, 1000)
    assert diarize.sessions == []


async def test_a_pause_of_the_client_asks_both_for_what_they_know(
    connect: Connect, start_edge: StartEdge, asr_address: str, diarize_address: str, diarize: FakeLiveDiarize
) -> None:
    addresses = {"asr_address": asr_address, "diarize_address": diarize_address}
    client = await connect(await start_edge(**addresses, stream_keepalive_s=0.2))
    await client.say(SPEAKERS, SECOND)
    session = await diarize.session()
    await session.flushed.wait()
    session.say(0, 1, (0, 1, 1))
    await client.hear_until(**named((1, 1)))
    assert ids(client.messages) == [1]


async def test_a_segment_of_several_messages_has_an_id_for_each_and_no_message_is_too_long(
    connect: Connect, asr: FakeLiveAsr, diarize: FakeLiveDiarize
) -> None:
    asr.word, asr.words_per_s = "word" * 20, MAX_OPEN_WORDS
    client = await connect()
    await client.say(SPEAKERS, SECOND)
    session = await diarize.session()
    session.say(0, 1, (0, 0.3, 1), (0.3, 0.7, 2), (0.7, 1, 1))
    await client.say(STOP)
    messages, _ = await client.hear_out()
    said = {m["id"]: len(m["words"]) for m in of_type(messages, "transcript")}
    segments = [segment for m in of_type(messages, "speakers") for segment in m["segments"]]
    assert len(said) > 1
    assert [segment["id"] for segment in segments] == list(said)
    assert all(sum(p["words"] for p in s["parts"]) == said[s["id"]] for s in segments if "parts" in s)
    assert max(client.sizes) <= 65_536


async def test_a_client_that_vanishes_ends_recognition_and_diarization_within_a_second(
    connect: Connect, asr: FakeLiveAsr, diarize: FakeLiveDiarize
) -> None:
    client = await connect()
    session = await talk(client, diarize, 2)
    client.socket._conn.transport.abort()  # type: ignore[union-attr]
    await asyncio.wait_for(asyncio.gather(session.ended.wait(), asr.sessions[0].ended.wait()), 1)


async def test_a_recognition_that_fails_ends_diarization(
    connect: Connect, asr: FakeLiveAsr, diarize: FakeLiveDiarize
) -> None:
    client = await connect()
    session = await talk(client, diarize, 2)
    asr.error = SttError(Reason.OVERLOADED, "Too many sessions.", retry_after_s=2)
    await client.say(SECOND)
    messages, code = await client.hear_out()
    assert (messages[-1]["error"], code) == ("Too many sessions.", 1013)
    await asyncio.wait_for(session.ended.wait(), 1)


async def test_who_is_sent_off_gets_the_last_speakers_before_he_is_told_why(
    connect: Connect, start_edge: StartEdge, asr_address: str, diarize_address: str, diarize: FakeLiveDiarize
) -> None:
    addresses = {"asr_address": asr_address, "diarize_address": diarize_address}
    client = await connect(await start_edge(**addresses, stream_idle_s=0.5))
    session = await talk(client, diarize, 2)
    session.say(0, 1.5, (0, 1.5, 1))
    messages, code = await client.hear_out()
    assert messages[-2] == named((1, 1))
    assert (messages[-1]["code"], code) == ("IDLE_TIMEOUT", 1008)


async def test_when_the_server_stops_a_diarization_that_hangs_does_not_keep_it(
    connect: Connect, edge: Edge, diarize: FakeLiveDiarize
) -> None:
    diarize.proceed.clear()
    client = await connect()
    session = await talk(client, diarize, 4)
    session.say(0, 3, (0, 3, 1))
    await client.hear_until(type="speakers")
    stopping = asyncio.create_task(edge.stop())
    messages, code = await client.hear_out()
    assert of_type(messages, "speakers")[1] == named((2, 1))
    assert (messages[-1]["code"], code) == ("SHUTTING_DOWN", 1001)
    async with asyncio.timeout(2):
        await stopping
