"""The summary service over the wire: a real server, the real engine."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from stt.summarize.v1 import summarize_pb2 as pb

from services.common.errors import Reason
from services.summarize.engine import Caveat, Delta, Style
from services.summarize.engines.extractive.engine import ExtractiveEngine
from tests.summarize.client import Client, serving

MEETING = """\
Speaker 1: Okay, um, so thanks everyone for joining. Today we want to talk about the launch of the new mobile app.
Speaker 2: Yeah, so the, the main problem is the login screen. You know, about twenty percent of users drop out there.
Speaker 1: Hmm, that's a lot. Do we know why?
Speaker 2: The password rules are too strict and the error messages on the login screen are confusing.
Speaker 3: I looked at the support tickets, uh, and most of the tickets are about password resets. So that fits.
Speaker 1: Okay. We need to simplify the password rules. Maria, can you send the ticket statistics by Thursday?
Speaker 3: Sure, I'll send them tomorrow morning.
Speaker 2: And I'll rewrite the error messages by Friday. I won't touch the layout though.
Speaker 1: About marketing: the budget was cut by ten percent, so the campaign starts in March instead of February.
Speaker 3: The agency promised us two videos and the website. The website is nearly done, but the videos are late.
Speaker 1: Let's meet again next Tuesday at 10 am to check the launch list.
Speaker 2: What about the Android version? It crashes on older phones when the camera opens.
Speaker 3: Older phones are five percent of our users, so supporting older phones may not be worth the cost.
Speaker 1: Alright, that's it. Thank you all.
"""
STYLES = [
    pb.STYLE_BRIEF, pb.STYLE_DETAILED, pb.STYLE_ACTION_ITEMS, pb.STYLE_BULLET_POINTS, pb.STYLE_HEADLINE
]  # fmt: skip


class HeldEngine:
    """Starts, and goes on when it is let."""

    model = "held"

    def __init__(self) -> None:
        self.started, self.released, self.closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def summarize(self, text: str, style: Style) -> AsyncGenerator[Delta | Caveat, None]:
        self.started.set()
        try:
            await self.released.wait()
            yield Delta("Done.")
        finally:
            self.closed.set()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    with ThreadPoolExecutor(2) as executor:
        async with serving(ExtractiveEngine(executor), 8) as served:
            yield served


async def test_a_summary_is_deltas_and_then_one_closing_message_with_the_model(client: Client) -> None:
    *deltas, last = await client.events(MEETING)
    assert [event.WhichOneof("event") for event in deltas] == ["delta"] * len(deltas)
    assert len(deltas) == 3
    assert last.finished.model == "extractive-lexrank"
    assert list(last.finished.warnings) == []


async def test_an_unspecified_style_is_brief(client: Client) -> None:
    assert await client.summary(MEETING, pb.STYLE_UNSPECIFIED) == await client.summary(MEETING, pb.STYLE_BRIEF)


async def test_every_style_gives_another_summary(client: Client) -> None:
    assert len({await client.summary(MEETING, style) for style in STYLES}) == len(STYLES)


async def test_a_brief_summary_is_two_or_three_clean_sentences_without_labels(client: Client) -> None:
    summary = await client.summary(MEETING, pb.STYLE_BRIEF)
    assert 2 <= summary.count(". ") + 1 <= 3
    assert "\n" not in summary
    assert "Speaker" not in summary
    assert " um" not in summary


async def test_a_detailed_summary_is_paragraphs_in_the_order_of_the_text(client: Client) -> None:
    paragraphs = (await client.summary(MEETING, pb.STYLE_DETAILED)).split("\n\n")
    assert len(paragraphs) >= 3
    places = [MEETING.index(paragraph.rpartition(". ")[2].strip(".")[-25:]) for paragraph in paragraphs]
    assert places == sorted(places)


async def test_bullet_points_are_one_a_line(client: Client) -> None:
    lines = (await client.summary(MEETING, pb.STYLE_BULLET_POINTS)).split("\n")
    assert 3 <= len(lines) <= 8
    assert all(line.startswith("- ") and len(line) <= 162 for line in lines)


async def test_a_headline_is_one_short_line_without_a_full_stop(client: Client) -> None:
    summary = await client.summary(MEETING, pb.STYLE_HEADLINE)
    assert "\n" not in summary
    assert 10 < len(summary) <= 100
    assert not summary.endswith(".")


async def test_action_items_say_who_what_and_when_and_nothing_else(client: Client) -> None:
    assert (await client.summary(MEETING, pb.STYLE_ACTION_ITEMS)).split("\n") == [
        "- We: simplify the password rules",
        "- Maria: send the ticket statistics (by Thursday)",
        "- Speaker 3: send them (tomorrow morning)",
        "- Speaker 2: rewrite the error messages (by Friday)",
        "- We: meet again to check the launch list (next Tuesday at 10 am)",
    ]


async def test_a_talk_without_commitments_has_no_action_items_and_says_so(client: Client) -> None:
    text = "It was the best of times. It was the worst of times."
    assert await client.summary(text, pb.STYLE_ACTION_ITEMS) == "No action items were found."


async def test_you_is_the_other_speaker_where_there_are_two(client: Client) -> None:
    text = "Ann: Could you send me the offer tonight?\nBob: Yes, of course."
    assert await client.summary(text, pb.STYLE_ACTION_ITEMS) == "- Bob: send me the offer (tonight)"


async def test_one_endless_line_without_punctuation_is_summarized_in_pieces(client: Client) -> None:
    text = (
        "okay so the first thing is the budget the budget was cut again this year and that hurts the hardware team most"
        " then i'll ask finance for the exact numbers by monday and john will order the test phones tomorrow"
        " because the hardware team cannot test without phones so the release of the hardware is at risk"
    )
    assert len(await client.summary(text, pb.STYLE_BRIEF)) < len(text)
    actions = (await client.summary(text, pb.STYLE_ACTION_ITEMS)).split("\n")
    assert actions == ["- I: ask finance for the exact numbers (by monday)", "- John: order the test phones (tomorrow)"]


async def test_subtitles_are_read_without_numbers_and_times(client: Client) -> None:
    text = (
        "1\n00:00:01,000 --> 00:00:03,000\nSpeaker 1: The harbour was closed\n\n"
        "2\n00:00:03,000 --> 00:00:05,000\nfor three days after the storm.\n\n"
        "3\n00:00:05,000 --> 00:00:08,000\nSpeaker 2: The ships waited outside.\n"
    )
    assert (
        await client.summary(text) == "The harbour was closed for three days after the storm. The ships waited outside."
    )


@pytest.mark.parametrize(
    "text",
    [
        "今天的会议讨论了新产品的价格。价格太高，客户不满意。我们决定下个月降价！大家都同意吗？",
        "الاجتماع كان طويلا جدا. هل نحن متفقون؟ السعر مرتفع جدا للعملاء.",
        "बैठक लंबी थी। कीमत बहुत ज़्यादा है। ग्राहक खुश नहीं हैं।",
        "Heute haben wir lange über das neue Produkt gesprochen. Der Preis ist für unsere Kunden leider viel zu hoch.",
    ],
)
async def test_other_languages_are_summarized_with_a_warning(client: Client, text: str) -> None:
    summary = await client.summary(text)
    assert summary
    assert all(sentence in text for sentence in re.split(r"(?<=[.。！？؟।]) ?", summary))
    assert await client.warnings(text) == ["LANGUAGE_ASSUMED"]
    assert await client.warnings(text, pb.STYLE_ACTION_ITEMS) == ["LANGUAGE_ASSUMED"]


async def test_control_characters_are_taken_out(client: Client) -> None:
    assert await client.summary("The \x00boat\x07 was \u202ered\x1b.") == "The boat was red."


@pytest.mark.parametrize("style", STYLES)
async def test_a_text_of_one_filler_still_gets_an_answer(client: Client, style: int) -> None:
    assert await client.summary("Um.", style)


@pytest.mark.parametrize("text", ["", " \n\t ", "\x00\x01", "\u200b\ufeff"])
async def test_a_text_without_a_visible_character_is_an_invalid_request(client: Client, text: str) -> None:
    code, error = await client.error(text)
    assert (code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_REQUEST)


async def test_an_unknown_style_is_an_invalid_request(client: Client) -> None:
    code, error = await client.error("Hello.", 99)
    assert (code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_REQUEST)


async def test_a_million_four_byte_characters_are_taken(client: Client) -> None:
    assert await client.summary("😀" * 1_000_000)


async def test_one_character_more_is_too_large(client: Client) -> None:
    code, error = await client.error("😀" * 1_000_001)
    assert (code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, Reason.TOO_LARGE)


@pytest.mark.parametrize("style", STYLES)
async def test_a_million_characters_of_talk_take_seconds_and_do_not_stop_the_loop(client: Client, style: int) -> None:
    text = (MEETING * (1_000_000 // len(MEETING) + 1))[:1_000_000]
    long_one = asyncio.ensure_future(client.summary(text, style))
    assert await client.summary("A short one meanwhile.")
    assert not long_one.done()
    async with asyncio.timeout(20):
        assert 0 < len(await long_one) < 10_000


async def test_more_requests_than_the_service_takes_are_refused_with_a_delay() -> None:
    engine = HeldEngine()
    async with serving(engine, 1) as client:
        first = asyncio.ensure_future(client.summary(MEETING))
        await engine.started.wait()
        code, error = await client.error(MEETING)
        assert (code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.OVERLOADED)
        assert error.retry_after_s == 2.0
        engine.released.set()
        assert await first == "Done."
        assert await client.summary(MEETING) == "Done."


async def test_a_caller_who_hangs_up_ends_the_work_within_a_second_and_frees_the_place() -> None:
    engine = HeldEngine()
    async with serving(engine, 1) as client:
        first = client.call(MEETING)
        await engine.started.wait()
        first.cancel()
        async with asyncio.timeout(1):
            await engine.closed.wait()
        engine.released.set()
        assert await client.summary(MEETING) == "Done."
