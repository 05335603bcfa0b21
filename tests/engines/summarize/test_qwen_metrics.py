"""What is counted of many prompts at once through the real manager."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from services.summarize.engines.qwen.batching import Batches
from services.summarize.engines.qwen.files import MODEL
from services.summarize.engines.qwen.loading import Model
from tests.engines.summarize.conftest import MAX_BATCH, Watched
from tests.outside import Spans, until, value
from tests.summarize.client import Client

TEXT = "We talk about the launch of the app."


def waiting() -> float:
    return value("stt_queue_length", kind="text")


async def whole(batches: Batches, prompt: Sequence[int], max_tokens: int) -> list[int]:
    async with aclosing(batches.answer(prompt, max_tokens)) as answer:
        return [token async for tokens in answer for token in tokens]


def prompt_of(model: Model) -> list[int]:
    (tokens,) = model.tokenizer.encode([TEXT])
    return model.tokenizer.frame("Summarize it.").around(tokens)


async def test_tokens_read_and_written_are_counted_and_when_the_first_one_came(model: Model, batches: Batches) -> None:
    read, written = (value("stt_tokens_total", direction=each) for each in ("read", "written"))
    firsts, busy = value("stt_first_token_seconds_count"), value("stt_engine_busy_seconds_total", model=MODEL)
    prompt = prompt_of(model)
    said = await whole(batches, prompt, 30)
    assert value("stt_tokens_total", direction="read") == read + len(prompt)
    assert value("stt_tokens_total", direction="written") == written + len(said)
    assert value("stt_first_token_seconds_count") == firsts + 1
    assert value("stt_engine_busy_seconds_total", model=MODEL) > busy


async def test_time_in_which_nobody_asks_is_not_busy(model: Model, batches: Batches) -> None:
    now = asyncio.get_running_loop().time
    await whole(batches, prompt_of(model), 2)
    before, until_s = value("stt_engine_busy_seconds_total", model=MODEL), now() + 0.1
    await until(lambda: now() > until_s)
    began = now()
    await whole(batches, prompt_of(model), 2)
    assert 0 < value("stt_engine_busy_seconds_total", model=MODEL) - before <= now() - began


async def test_a_summary_counts_one_wait(client: Client) -> None:
    waited, queue = value("stt_queue_wait_seconds_count", kind="text"), waiting()
    await client.summary(TEXT)
    assert value("stt_queue_wait_seconds_count", kind="text") == waited + 1
    assert waiting() == queue


async def test_the_span_of_a_request_has_the_tokens_of_each_of_its_prompts(
    client: Client, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = Spans(monkeypatch)
    await client.summary(TEXT)
    (event,) = spans.only().events
    told = dict(event.attributes or {})
    assert told["summarize.tokens_read"] == len(watched.prompts[0])
    assert told["summarize.tokens_written"]


async def test_prompts_that_wait_for_room_are_shown_until_they_leave(model: Model, batches: Batches) -> None:
    queue, waited = waiting(), value("stt_queue_wait_seconds_count", kind="text")
    batched = [value(f"stt_batch_size_{what}", kind="text") for what in ("count", "sum")]
    tasks = [asyncio.create_task(whole(batches, prompt_of(model), 400)) for _ in range(MAX_BATCH + 3)]
    await until(lambda: batches.under_way == MAX_BATCH and waiting() == queue + 3)
    for task in tasks[-3:]:
        task.cancel()
    await until(lambda: waiting() == queue)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert waiting() == queue
    assert value("stt_queue_wait_seconds_count", kind="text") == waited + MAX_BATCH
    # Each began in the company of those before.
    assert [value(f"stt_batch_size_{what}", kind="text") for what in ("count", "sum")] == [
        batched[0] + MAX_BATCH,
        batched[1] + sum(range(1, MAX_BATCH + 1)),
    ]
