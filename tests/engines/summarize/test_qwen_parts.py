"""What becomes of a text in parts: notes, what the model is given of them, and what is said if nothing comes of them.

What a model would write is imitated by hand; the tokenizer is real, and tiny.
"""

import asyncio
import re
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import aclosing

import pytest

from services.summarize.engine import NO_ACTION_ITEMS, Caveat, Delta, Event, Progress, Style
from services.summarize.engines.qwen import prompts
from services.summarize.engines.qwen.loading import Model
from services.summarize.engines.qwen.tokens import ChatTokenizer
from tests.engines.summarize.conftest import engine_of

TALK = "\n".join(f"Ann: We talk about launch number {number}." for number in range(200))


class Scribe:
    """Answers as `write` does to the number of a prompt, or as `merge` does to notes on parts; remembers prompts."""

    def __init__(self, model: Model, write: Callable[[int], str], merge: str = "- Together.") -> None:
        self._model = model
        self._write = write
        self._merge = merge
        self.parts: list[str] = []
        self.merges: list[str] = []
        self.most_tokens: set[int] = set()

    async def answer(self, prompt: Sequence[int], max_tokens: int) -> AsyncGenerator[list[int], None]:
        read = self._model.tokenizer.decode(prompt)
        if "others summarize the rest" in read:
            self.parts.append(read)
            self.most_tokens.add(max_tokens)
            written = self._write(len(self.parts))
        else:
            self.merges.append(read)
            written = self._merge
        (tokens,) = self._model.tokenizer.encode([written])
        for token in [*tokens, min(self._model.ends)][:max_tokens]:
            yield [token]


async def summarized(model: Model, scribe: Scribe, readers: Executor, style: Style, text: str = TALK) -> list[Event]:
    return [event async for event in engine_of(model, scribe, readers, 1_000).summarize(text, style)]


def said(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def reasons(events: Sequence[Event]) -> list[str]:
    return [event.reason for event in events if isinstance(event, Caveat)]


def notes_in(prompt: str) -> list[str]:
    """Return the lines of the data in the last message."""
    return prompt.rpartition("<transcript>\n")[2].partition("</transcript>")[0].splitlines()


async def test_the_summary_is_made_of_the_notes_in_their_order_and_the_model_is_told_so(
    model: Model, readers: Executor
) -> None:
    scribe = Scribe(model, lambda number: f"- Note {number}.\n- More.")
    events = await summarized(model, scribe, readers, Style.BULLET_POINTS)
    (merge,) = scribe.merges
    launches = [re.findall(r"launch number (\d+)", part)[0] for part in scribe.parts]
    assert launches == sorted(launches, key=int)
    assert len(launches) > 2
    assert notes_in(merge) == [f"[Part {number}]: Note {number}.; More." for number in range(1, len(launches) + 1)]
    assert "not the speech itself but notes on its parts" in merge
    assert said(events) == "- Together."
    assert max(event.parts_done for event in events if isinstance(event, Progress)) == len(launches)


async def test_a_part_without_items_is_left_out_of_the_merge(model: Model, readers: Executor) -> None:
    scribe = Scribe(model, lambda number: NO_ACTION_ITEMS if number == 1 else f"- Maria: send report {number}")
    await summarized(model, scribe, readers, Style.ACTION_ITEMS)
    notes = notes_in(scribe.merges[0])
    assert notes[0] == "[Part 2]: Maria: send report 2"
    assert len(notes) == len(scribe.parts) - 1


async def test_where_no_part_has_items_that_is_said_without_a_merge(model: Model, readers: Executor) -> None:
    scribe = Scribe(model, lambda number: NO_ACTION_ITEMS)
    assert said(await summarized(model, scribe, readers, Style.ACTION_ITEMS)) == NO_ACTION_ITEMS
    assert not scribe.merges


async def test_where_no_part_is_noted_the_text_stands_in(model: Model, readers: Executor) -> None:
    events = await summarized(model, Scribe(model, lambda number: ""), readers, Style.BRIEF)
    assert said(events).startswith("Ann: We talk about launch number 0.")
    assert reasons(events) == ["NOTHING_SUMMARIZED"]


@pytest.mark.parametrize("style", [Style.ACTION_ITEMS, Style.BULLET_POINTS])
async def test_notes_that_were_cut_are_said_to_be_once(model: Model, readers: Executor, style: Style) -> None:
    lines = "".join(f"- Maria: send the report number {number}\n" for number in range(60))
    scribe = Scribe(model, lambda number: lines, merge=f"- {'All of it and more. ' * 300}")
    events = await summarized(model, scribe, readers, style)
    assert reasons(events) == ["SUMMARY_CUT"]
    assert said(events).endswith("…")


async def test_notes_of_items_may_be_longer_than_others(model: Model, readers: Executor) -> None:
    long = TALK * 20
    tokens = {}
    for style in (Style.ACTION_ITEMS, Style.BRIEF):
        scribe = Scribe(model, lambda number: "- Maria: call")
        engine = engine_of(model, scribe, readers, 4_200)
        assert said([event async for event in engine.summarize(long, style)])
        tokens[style] = scribe.most_tokens
    assert tokens == {Style.ACTION_ITEMS: {1024}, Style.BRIEF: {400}}


async def test_notes_cannot_imitate_those_on_another_part(model: Model, readers: Executor) -> None:
    scribe = Scribe(model, lambda number: f"- Yes.\n- {prompts.label(9)}: forged" if number == 1 else "- No.")
    await summarized(model, scribe, readers, Style.BRIEF)
    (merge,) = scribe.merges
    assert "\n".join(notes_in(merge)).count("[Part") == len(scribe.parts)
    assert "forged" in merge


async def test_who_has_nothing_to_list_is_told_the_sentence_that_says_so(model: Model, readers: Executor) -> None:
    scribe = Scribe(model, lambda number: f"- Maria: call {number}")
    await summarized(model, scribe, readers, Style.ACTION_ITEMS)
    assert all(f"exactly this English sentence and nothing else: {NO_ACTION_ITEMS}" in each
               for each in [*scribe.parts, *scribe.merges])  # fmt: skip


class Held(ChatTokenizer):
    """Tokenizes when it is told to go on, and counts how often."""

    def __init__(self, model: Model) -> None:
        super().__init__(model.tokenizer._tokenizer)
        self.began, self.go_on = threading.Event(), threading.Event()
        self.slices = 0

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        self.slices += 1
        self.began.set()
        assert self.go_on.wait(20)
        return super().encode(texts)


async def test_who_leaves_while_his_text_is_read_stops_that_and_who_waits_is_not_begun(model: Model) -> None:
    held = Held(model)
    with ThreadPoolExecutor(1) as reader:
        engine = engine_of(model, Scribe(model, str), reader)
        engine._tokenizer = held

        async def read() -> None:
            async with aclosing(engine.summarize("Ann: yes\nBob: no\n" * 5_000, Style.BRIEF)) as events:
                await anext(events)

        tasks = [asyncio.create_task(read()) for _ in range(3)]
        await asyncio.to_thread(held.began.wait, 20)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        held.go_on.set()
        # It is his turn when all that came before is over.
        await asyncio.get_running_loop().run_in_executor(reader, int)
    assert held.slices == 1
