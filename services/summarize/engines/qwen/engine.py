"""The production engine: one pass where a transcript fits, else notes on its parts and a summary of the notes."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import aclosing
from typing import Protocol, TypeVar

from services.common.errors import Reason, SttError
from services.summarize.engine import NO_ACTION_ITEMS, Caveat, Delta, Event, Progress, Style
from services.summarize.engines.qwen import prompts
from services.summarize.engines.qwen.detokenizing import Detokenizer
from services.summarize.engines.qwen.files import MODEL
from services.summarize.engines.qwen.forms import form
from services.summarize.engines.qwen.scripts import caveats
from services.summarize.engines.qwen.sizing import Sizes
from services.summarize.engines.qwen.splitting import Encode, split
from services.summarize.engines.qwen.tokens import ChatTokenizer
from services.summarize.transcript import Turn, read_turns, visible

_CUT = Caveat("SUMMARY_CUT", "The summary would have been longer than summaries may be; its end is missing.")
_NOTHING_SAID = Caveat("NOTHING_SUMMARIZED", "The model had nothing to say; the answer is how the text begins.")
_MAX_QUOTED_CHARS = 100
# At most that share of what fits into a pass are the notes on one part: so notes on some parts always fit into one.
_NOTES_SHARE = 4
# Notes on a million characters in the smallest passes need six.
_MAX_ROUNDS = 10

R = TypeVar("R")


class _AbandonedError(Exception):
    """Nobody waits any more."""


class Answering(Protocol):
    """Answers prompts of tokens."""

    @property
    def is_lost(self) -> bool:
        """Whether what it runs on failed for good, so that it answers nothing any more."""
        ...

    def answer(self, prompt: Sequence[int], max_tokens: int) -> AsyncGenerator[list[int], None]:
        """Yield the tokens of the answer as they come."""
        ...


class QwenEngine:
    """Writes summaries in its own words, in the language of the transcript, of tokens that are the likeliest each time.

    `readers` read texts in threads; `ends` are the tokens that end an answer. Of one text no more than `parts_at_once`
    are under way together, so that those of others come between.
    """

    model = MODEL

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        answering: Answering,
        readers: Executor,
        ends: frozenset[int],
        sizes: Sizes,
        parts_at_once: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._answering = answering
        self._readers = readers
        self._ends = ends
        self._sizes = sizes
        self._parts_at_once = parts_at_once

    @property
    def is_ready(self) -> bool:
        """Whether it can answer, as it can until it is lost."""
        return not self._answering.is_lost

    @property
    def is_alive(self) -> bool:
        """Whether what it runs on has not failed for good."""
        return not self._answering.is_lost

    async def summarize(self, text: str, style: Style) -> AsyncGenerator[Event, None]:
        """Yield caveats, progress where there are parts, and the summary as it is written."""
        turns, known = await self._read(lambda encode: (read_turns(text), list(caveats(text))))
        for caveat in known:
            yield caveat
        turns = turns or [Turn(None, visible(text))]
        merges = is_cut = False
        done = total = 0
        for _ in range(_MAX_ROUNDS):
            whole = self._tokenizer.frame(prompts.instruction(style, merges=merges))
            part = self._tokenizer.frame(prompts.part_instruction(style, merges=merges))
            room = self._sizes.max_tokens - max(whole.size, part.size) - prompts.MAX_TOKENS[style]
            limit = min(room, self._sizes.max_input_tokens)
            parts = await self._split(turns, limit)
            if len(parts) < 2:
                break
            total += len(parts)
            yield Progress(done, total)
            max_tokens = min(prompts.MAX_NOTES_TOKENS[style], limit // _NOTES_SHARE)
            places = asyncio.Semaphore(self._parts_at_once)
            notes = [asyncio.create_task(self._note(part.around(each), style, max_tokens, places)) for each in parts]
            try:
                for note in asyncio.as_completed(notes):
                    await note
                    done += 1
                    yield Progress(done, total)
            finally:
                for task in notes:
                    task.cancel()
                await asyncio.gather(*notes, return_exceptions=True)
            said = [task.result() for task in notes]
            if not is_cut and any(was_cut for _, was_cut in said):
                is_cut = True
                yield _CUT
            turns = [Turn(prompts.label(number), note) for number, (note, _) in enumerate(said, 1) if note]
            merges = True
        else:
            raise SttError(Reason.INTERNAL, "The text could not be made short enough for a summary.")
        is_empty = True
        if parts:
            async with aclosing(self._write(whole.around(parts[0]), style, prompts.MAX_TOKENS[style])) as written:
                async for event in written:
                    is_empty = is_empty and not isinstance(event, Delta)
                    if event is not _CUT or not is_cut:
                        yield event
        if is_empty and style is Style.ACTION_ITEMS:
            yield Delta(NO_ACTION_ITEMS)
        elif is_empty:
            yield _NOTHING_SAID
            shape, quoted = form(style), visible(text)[:_MAX_QUOTED_CHARS]
            yield Delta(shape.push(quoted) + shape.end() or quoted)

    async def _read(self, work: Callable[[Encode], R]) -> R:
        """Return what `work` returns, done in a thread; it ends when it next tokenizes once nobody waits for it."""
        stop = threading.Event()

        def encode(texts: Sequence[str]) -> list[list[int]]:
            if stop.is_set():
                raise _AbandonedError
            return self._tokenizer.encode(texts)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, work, encode)
        finally:
            stop.set()

    async def _split(self, turns: Sequence[Turn], limit: int) -> list[list[int]]:
        return await self._read(lambda encode: split(turns, encode, limit))

    async def _note(
        self, prompt: Sequence[int], style: Style, max_tokens: int, places: asyncio.Semaphore
    ) -> tuple[str, bool]:
        """Return notes on one part, on one line, and whether they were cut; none where there is nothing to note."""
        shape = Style.ACTION_ITEMS if style is Style.ACTION_ITEMS else Style.BULLET_POINTS
        async with places, aclosing(self._write(prompt, shape, max_tokens)) as written:
            events = [event async for event in written]
        said = "".join(event.text for event in events if isinstance(event, Delta))
        if said == NO_ACTION_ITEMS:
            said = ""
        return prompts.unlabelled(said.removeprefix("- ").replace("\n- ", "; ")), _CUT in events

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
