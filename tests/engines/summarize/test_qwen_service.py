"""The Qwen engine over the wire: a real server, the real batches, a tiny random model.

A random model shows the plumbing, and nothing of what its summaries are worth.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Executor

import grpc
import pytest
from stt.summarize.v1 import summarize_pb2 as pb

from services.common.errors import Reason
from services.summarize.engine import Style
from services.summarize.engines.qwen import prompts
from services.summarize.engines.qwen.batching import Batches
from services.summarize.engines.qwen.loading import Model
from tests.engines.summarize.conftest import MAX_BATCH, Watched, engine_of
from tests.summarize.client import Client, serving

MEETING = "\n".join(f"Speaker {number % 3 + 1}: Okay, we talk about launch number {number}." for number in range(20))
TALK_OF_ONE = "We talk about the launch of the app."
SAID = "we talk about the launch of the new mobile app today and the main problem is the login screen"
WORDS = SAID.split()


class Silent:
    """Ends at once."""

    is_lost = False

    def __init__(self, model: Model) -> None:
        self._end = min(model.ends)

    async def answer(self, prompt: Sequence[int], max_tokens: int) -> AsyncGenerator[list[int], None]:
        yield [self._end]


def talk(words: int, *, seed: int = 7) -> str:
    """Return a made-up transcript of so many words, in turns of some twenty."""
    rng = random.Random(seed)
    turns = (f"Speaker {number % 4 + 1}: {' '.join(rng.choices(WORDS, k=18))}." for number in range(words // 20))
    return "\n".join(turns)


async def test_a_summary_streams_and_ends_with_the_model(client: Client) -> None:
    *deltas, last = await client.events(MEETING, pb.STYLE_BRIEF)
    assert len([event for event in deltas if event.WhichOneof("event") == "delta"]) > 10
    assert last.finished.model == "qwen2.5-1.5b-instruct"


async def test_the_first_delta_comes_while_the_model_still_writes(client: Client, batches: Batches) -> None:
    call = client.call(MEETING, pb.STYLE_DETAILED)
    event = await anext(aiter(call))
    assert event.delta
    assert batches.under_way == 1
    call.cancel()


async def test_the_same_text_gets_the_same_summary_alone_and_among_others(client: Client) -> None:
    texts = [talk(200, seed=seed) for seed in range(6)]
    alone = [await client.summary(text, pb.STYLE_HEADLINE) for text in texts]
    assert await asyncio.gather(*(client.summary(text, pb.STYLE_HEADLINE) for text in texts)) == alone


async def test_a_caller_who_hangs_up_frees_his_place_in_the_batch(
    client: Client, batches: Batches, watched: Watched
) -> None:
    call = client.call(MEETING, pb.STYLE_DETAILED)
    await anext(aiter(call))
    call.cancel()
    await watched.idle.wait()
    assert batches.under_way == 0


async def test_a_caller_who_hangs_up_amid_the_parts_frees_all_places_and_begins_no_more(
    model: Model, batches: Batches, watched: Watched, readers: Executor
) -> None:
    async with serving(engine_of(model, watched, readers, 500), 8) as client:
        call = client.call(talk(8_000), pb.STYLE_BRIEF)
        events = aiter(call)
        first, second = await anext(events), await anext(events)
        assert first.progress.parts > 2 * MAX_BATCH
        assert second.progress.parts_done == 1
        call.cancel()
        await watched.idle.wait()
    assert batches.under_way == 0
    assert len(watched.prompts) <= MAX_BATCH


async def test_parts_of_one_text_leave_room_for_other_texts(terse_client: Client, terse_watched: Watched) -> None:
    events = await terse_client.events(talk(6_000), pb.STYLE_HEADLINE)
    assert events[0].progress.parts > 4
    assert terse_watched.most == 2


async def test_a_summary_is_bounded_and_says_where_it_was_cut(client: Client, model: Model) -> None:
    events = await client.events(MEETING, pb.STYLE_BRIEF)
    summary = "".join(event.delta for event in events)
    assert summary.endswith("…")
    assert [warning.reason for warning in events[-1].finished.warnings] == ["SUMMARY_CUT"]
    assert len(model.tokenizer.encode([summary])[0]) <= 2 * prompts.MAX_TOKENS[Style.BRIEF]


async def test_a_long_transcript_is_summarized_in_parts_and_says_how_far_it_is(terse_client: Client) -> None:
    events = await terse_client.events(talk(3_000), pb.STYLE_HEADLINE)
    progress = [(event.progress.parts_done, event.progress.parts) for event in events if event.HasField("progress")]
    parts = progress[0][1]
    assert parts >= 2
    assert progress == [(done, parts) for done in range(parts + 1)]
    assert [event.WhichOneof("event") for event in events[len(progress) :]] == ["delta", "finished"]


async def test_notes_too_long_for_one_pass_are_summarized_in_turn(
    terse_model: Model, terse_batches: Batches, readers: Executor
) -> None:
    async with serving(engine_of(terse_model, terse_batches, readers, max_input_tokens=120), 8) as client:
        events = await client.events(talk(4_000), pb.STYLE_HEADLINE)
    progress = [(event.progress.parts_done, event.progress.parts) for event in events if event.HasField("progress")]
    assert progress == sorted(progress)
    assert progress[-1][0] == progress[-1][1] > progress[0][1]
    assert events[-1].HasField("finished")


async def test_five_hours_of_talk_are_summarized(terse_client: Client) -> None:
    text = talk(60_000)
    assert len(text) > 300_000
    events = await terse_client.events(text, pb.STYLE_HEADLINE)
    assert [event.progress.parts_done for event in events if event.HasField("progress")][-1] > 10
    assert "".join(event.delta for event in events)


async def test_one_endless_line_is_summarized_in_parts(terse_client: Client) -> None:
    events = await terse_client.events(" ".join([SAID] * 100), pb.STYLE_HEADLINE)
    assert events[0].progress.parts >= 2
    assert "".join(event.delta for event in events)


async def test_one_endless_word_is_summarized_in_parts(terse_client: Client) -> None:
    assert await terse_client.summary("今" * 1_500, pb.STYLE_HEADLINE)


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("今天的会议讨论了新产品的价格。价格太高，客户不满意。我们决定下个月降价！大家都同意吗？", []),
        ("Сегодня мы обсудили запуск нового приложения. Цена слишком высокая.", []),
        ("बैठक लंबी थी। कीमत बहुत ज़्यादा है। ग्राहक खुश नहीं हैं।", ["LANGUAGE_UNCERTAIN"]),
        ("Η συνάντηση κράτησε πολύ και η τιμή είναι υψηλή.", ["LANGUAGE_UNCERTAIN"]),
        ("Um.", ["LITTLE_TEXT"]),
        ("😀👍🏽", ["LITTLE_TEXT"]),
        ("...", ["LITTLE_TEXT"]),
    ],
)
async def test_any_script_and_next_to_nothing_are_answered_with_a_warning_where_due(
    client: Client, text: str, warnings: list[str]
) -> None:
    events = await client.events(text, pb.STYLE_HEADLINE)
    assert "".join(event.delta for event in events)
    said = [warning.reason for warning in events[-1].finished.warnings]
    assert [reason for reason in said if reason not in ("SUMMARY_CUT", "NOTHING_SUMMARIZED")] == warnings


async def test_a_model_with_nothing_to_say_is_stood_in_for_by_the_text_and_a_warning(
    model: Model, readers: Executor
) -> None:
    async with serving(engine_of(model, Silent(model), readers), 8) as client:
        delta, last = await client.events(TALK_OF_ONE, pb.STYLE_BRIEF)
        assert await client.summary(TALK_OF_ONE, pb.STYLE_ACTION_ITEMS) == "No action items were found."
    assert delta.delta == TALK_OF_ONE
    assert [warning.reason for warning in last.finished.warnings] == ["NOTHING_SUMMARIZED"]


async def test_one_character_too_many_is_too_large(client: Client) -> None:
    code, error = await client.error("a" * 1_000_001)
    assert (code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, Reason.TOO_LARGE)


async def test_more_requests_than_the_service_takes_are_refused(
    model: Model, batches: Batches, readers: Executor
) -> None:
    async with serving(engine_of(model, batches, readers), 1) as client:
        first = client.call(MEETING, pb.STYLE_DETAILED)
        await anext(aiter(first))
        code, error = await client.error(MEETING)
        assert (code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.OVERLOADED)
        first.cancel()
