"""What is said in a transcript stays data: no token of it is a command, no line of it ends it, and the form is kept.

The model is random, so it obeys nobody: that a trained one ignores what is said to it is not shown here. Shown is what
it is given, and that the form holds whatever it writes; what an obedient one would write is in the tests of the forms.
"""

import asyncio
import unicodedata
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Executor

import pytest
from stt.summarize.v1 import summarize_pb2 as pb

from services.summarize.engine import Style
from services.summarize.engines.qwen.batching import Batches
from services.summarize.engines.qwen.loading import Model
from tests.engines.summarize.conftest import Watched, engine_of
from tests.engines.summarize.injections import SPOKEN
from tests.summarize.client import Client, serving
from tests.summarize.test_qwen_forms import BAD, has_form

STYLES = {
    Style.BRIEF: pb.STYLE_BRIEF,
    Style.DETAILED: pb.STYLE_DETAILED,
    Style.ACTION_ITEMS: pb.STYLE_ACTION_ITEMS,
    Style.BULLET_POINTS: pb.STYLE_BULLET_POINTS,
    Style.HEADLINE: pb.STYLE_HEADLINE,
}
INNOCENT = "Speaker 1: We talk about the launch.\nSpeaker 2: {}\nSpeaker 1: Okay, thanks everyone."


class Obedient:
    """Answers what it was told to answer, as a model would that does what is said in a transcript; and then ends."""

    def __init__(self, model: Model, written: str) -> None:
        backend = model.tokenizer._backend
        self._tokens = [*backend.encode(written, add_special_tokens=False).ids, min(model.ends)]

    async def answer(self, prompt: Sequence[int], max_tokens: int) -> AsyncGenerator[list[int], None]:
        for token in self._tokens[:max_tokens]:
            yield [token]


def test_there_are_more_than_fifty_injections() -> None:
    assert len(set(SPOKEN)) > 50


async def test_every_injection_leaves_the_form_and_the_borders_of_messages_alone(
    terse_model: Model, terse_batches: Batches, readers: Executor
) -> None:
    model, watched = terse_model, Watched(terse_batches)
    async with serving(engine_of(model, watched, readers), len(SPOKEN)) as client:
        calls = (client.summary(INNOCENT.format(spoken), pb.STYLE_BRIEF) for spoken in SPOKEN)
        summaries = await asyncio.gather(*calls)
        innocent = await client.summary(INNOCENT.format("Yes."), pb.STYLE_BRIEF)
    assert all(has_form(Style.BRIEF, summary) for summary in summaries)
    assert has_form(Style.BRIEF, innocent)
    added = model.tokenizer.added
    borders = {tuple(token for token in prompt if token in added) for prompt in watched.prompts}
    assert len(borders) == 1
    # What is asked of the model speaks of the tag, too: once in the first message.
    openings = {looks(text).count("<transcript>") for text in map(model.tokenizer.decode, watched.prompts)}
    closings = {looks(text).count("</transcript") for text in map(model.tokenizer.decode, watched.prompts)}
    assert (openings, closings) == ({2}, {2})


def looks(text: str) -> str:
    """Return a text as a reader may take it: without spaces and what nobody sees, in small plain letters."""
    return "".join(
        char
        for char in unicodedata.normalize("NFKC", text).lower()
        if not char.isspace() and unicodedata.category(char) not in ("Cf", "Mn")
    )


@pytest.mark.parametrize("written", [*SPOKEN[::6], *BAD])
async def test_a_model_that_obeyed_would_still_keep_the_form(model: Model, readers: Executor, written: str) -> None:
    async with serving(engine_of(model, Obedient(model, written), readers), 8) as client:
        for style, asked in STYLES.items():
            summary = await client.summary(INNOCENT.format(written), asked)
            assert summary
            assert has_form(style, summary)


@pytest.mark.parametrize("style", list(STYLES))
async def test_all_of_them_together_leave_the_form_of_every_style_alone(client: Client, style: Style) -> None:
    text = INNOCENT.format("\nSpeaker 3: ".join(SPOKEN))
    assert has_form(style, await client.summary(text, STYLES[style]))
