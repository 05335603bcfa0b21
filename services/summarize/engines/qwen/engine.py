"""The production engine: one pass where a transcript fits, else notes on its parts and a summary of the notes."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol

from services.common.tasks import in_background
from services.summarize.engine import Caveat, Delta, Event, Progress, Style
from services.summarize.engines.qwen import prompts
from services.summarize.engines.qwen.detokenizing import Detokenizer
from services.summarize.engines.qwen.files import MODEL
from services.summarize.engines.qwen.forms import form
from services.summarize.engines.qwen.scripts import caveats
from services.summarize.engines.qwen.splitting import split
from services.summarize.engines.qwen.tokens import ChatTokenizer
from services.summarize.transcript import Turn, read_turns, visible

_CUT = Caveat("SUMMARY_CUT", "The summary would have been longer than summaries may be; its end is missing.")
_NOTHING_SAID = Caveat("NOTHING_SUMMARIZED", "The model had nothing to say; the answer is how the text begins.")
_MAX_QUOTED_CHARS = 100
_NOTHING_NOTED = "(nothing)"
# At most that share of what fits into a pass are the notes on one part: so notes on some parts always fit into one.
_NOTES_SHARE = 4


class Answering(Protocol):
    """Answers prompts of tokens."""

    def answer(self, prompt: Sequence[int], max_tokens: int) -> AsyncGenerator[list[int], None]:
        """Yield the tokens of the answer as they come."""
        ...


class QwenEngine:
    """Writes summaries in its own words, in the language of the transcript, of tokens that are the likeliest each time.

    A prompt with its answer has at most `max_tokens` tokens, of which the text has at most `max_input_tokens`; `ends`
    are those that end an answer.
    """

    model = MODEL

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        answering: Answering,
        ends: frozenset[int],
        max_tokens: int,
        max_input_tokens: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._answering = answering
        self._ends = ends
        self._max_tokens = max_tokens
        self._max_input_tokens = max_input_tokens

    async def summarize(self, text: str, style: Style) -> AsyncGenerator[Event, None]:
        """Yield caveats, progress where there are parts, and the summary as it is written."""
        for caveat in await in_background(list, caveats(text)):
            yield caveat
        turns = await in_background(read_turns, text) or [Turn(None, visible(text))]
        merges = False
        done = total = 0
        while True:
            whole = self._tokenizer.frame(prompts.instruction(style, merges=merges))
            part = self._tokenizer.frame(prompts.part_instruction(style, merges=merges))
            room = self._max_tokens - max(whole.size, part.size) - prompts.MAX_TOKENS[style]
            limit = min(room, self._max_input_tokens)
            parts = await in_background(split, turns, self._tokenizer.encode, limit)
            if len(parts) == 1:
                break
            total += len(parts)
            yield Progress(done, total)
            max_tokens = min(prompts.MAX_NOTES_TOKENS, limit // _NOTES_SHARE)
            notes = [asyncio.create_task(self._note(part.around(tokens), style, max_tokens)) for tokens in parts]
            try:
                for note in asyncio.as_completed(notes):
                    await note
                    done += 1
                    yield Progress(done, total)
            finally:
                for task in notes:
                    task.cancel()
                await asyncio.gather(*notes, return_exceptions=True)
            turns = [Turn(f"Part {number}", task.result()) for number, task in enumerate(notes, 1)]
            merges = True
        async with aclosing(self._write(whole.around(parts[0]), style, prompts.MAX_TOKENS[style])) as written:
            is_empty = True
            async for event in written:
                is_empty = is_empty and not isinstance(event, Delta)
                yield event
        if is_empty:
            yield _NOTHING_SAID
            shape, quoted = form(style), visible(text)[:_MAX_QUOTED_CHARS]
            yield Delta(shape.push(quoted) + shape.end() or quoted)

    async def _note(self, prompt: Sequence[int], style: Style, max_tokens: int) -> str:
        """Return notes on one part, on one line."""
        shape = Style.ACTION_ITEMS if style is Style.ACTION_ITEMS else Style.BULLET_POINTS
        async with aclosing(self._write(prompt, shape, max_tokens)) as written:
            said = "".join([event.text async for event in written if isinstance(event, Delta)])
        return said.removeprefix("- ").replace("\n- ", "; ") or _NOTHING_NOTED

    async def _write(self, prompt: Sequence[int], style: Style, max_tokens: int) -> AsyncGenerator[Event, None]:
        """Yield what the model answers, in the form of `style`, and a caveat where it had more to say."""
        detokenizer, shape = Detokenizer(self._tokenizer.decode), form(style)
        has_ended = False
        async with aclosing(self._answering.answer(prompt, max_tokens)) as answer:
            async for tokens in answer:
                has_ended = tokens[-1] in self._ends
                if piece := shape.push(detokenizer.push(tokens)):
                    yield Delta(piece)
                if shape.is_full:
                    break
        rest = shape.push(detokenizer.end())
        is_cut = not has_ended and not shape.is_full
        if rest := rest + shape.end(is_cut=is_cut):
            yield Delta(rest)
        if is_cut:
            yield _CUT
