"""Many prompts at once through the real manager: the same answers, cancellation, and what goes wrong in it.

The model is random: it shows the plumbing, not summaries.
"""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs
from transformers.generation.continuous_batching import ContinuousBatchingManager

from services.common.errors import Reason, SttError
from services.summarize.engines.qwen.batching import Batches
from services.summarize.engines.qwen.files import MODEL
from services.summarize.engines.qwen.loading import Model, load
from services.summarize.engines.qwen.running import Running
from services.summarize.engines.qwen.sizing import PAGE_TOKENS, Sizes
from tests.engines.summarize.conftest import MAX_BATCH, batches_of

TEXTS = [f"Speaker {number}: We talk about launch number {number}{'!' * number}\n" for number in range(12)]
POISON = "Ω"
LONG = 400


def prompts_of(model: Model, texts: Sequence[str]) -> list[list[int]]:
    frame = model.tokenizer.frame("Summarize it.")
    return [frame.around(tokens) for tokens in model.tokenizer.encode(texts)]


async def whole(
    batches: Batches, prompt: Sequence[int], max_tokens: int = 40, begun: asyncio.Event | None = None
) -> list[int]:
    """Return the whole answer; set `begun` once it has come to be said."""
    said: list[int] = []
    async with aclosing(batches.answer(prompt, max_tokens)) as answer:
        async for tokens in answer:
            said += tokens
            if begun is not None:
                begun.set()
    return said


@asynccontextmanager
async def answering(batches: Batches, prompts: Sequence[Sequence[int]], max_tokens: int = 5_000) -> AsyncIterator[None]:
    """Read answers to prompts meanwhile, all of which have begun; then everybody leaves."""
    tasks, begun = [], []
    for prompt in prompts:
        begun.append(asyncio.Event())
        tasks.append(asyncio.create_task(whole(batches, prompt, max_tokens, begun[-1])))
    for event in begun:
        await event.wait()
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert all(task.cancelled() for task in tasks)


def failing(
    model: Model, error: Exception, when: Callable[[list[int]], bool]
) -> Callable[[], ContinuousBatchingManager]:
    """Return what makes managers whose model raises `error` in a step over tokens for which `when` is true."""

    def before(module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if when(kwargs["input_ids"].flatten().tolist()):
            raise error

    def make() -> ContinuousBatchingManager:
        manager = model.manager()
        hooked.append(manager.model.register_forward_pre_hook(before, with_kwargs=True))
        for earlier in hooked[:-1]:
            earlier.remove()
        return manager

    hooked: list[Any] = []
    return make


def holds(tokens: Sequence[int], poison: Sequence[int]) -> bool:
    return any(list(tokens[at : at + len(poison)]) == list(poison) for at in range(len(tokens)))


@pytest.fixture
def clean(model: Model) -> Any:
    """Take hooks off the shared model after the test."""
    yield
    module = model.manager().model
    module._forward_pre_hooks.clear()
    module._forward_pre_hooks_with_kwargs.clear()


async def test_answers_in_a_batch_are_the_answers_alone(model: Model, batches: Batches) -> None:
    prompts = prompts_of(model, TEXTS)
    alone = [await whole(batches, prompt) for prompt in prompts]
    assert await asyncio.gather(*(whole(batches, prompt) for prompt in prompts)) == alone
    assert len(set(map(tuple, alone))) > 1


async def test_answers_are_those_of_plain_greedy_search(model: Model, batches: Batches) -> None:
    prompt = prompts_of(model, TEXTS)[3]
    module = model.manager().model
    plain = module.generate(torch.tensor([prompt]), max_new_tokens=40, do_sample=False, eos_token_id=sorted(model.ends))
    assert await whole(batches, prompt) == plain[0, len(prompt) :].tolist()


async def test_what_prompts_begin_with_in_common_is_computed_once(model: Model) -> None:
    made: list[ContinuousBatchingManager] = []

    def make() -> ContinuousBatchingManager:
        made.append(model.manager())
        return made[-1]

    batches = batches_of(model, make)
    steps: list[int] = []
    module = model.manager().model
    hook = module.register_forward_pre_hook(
        lambda module, args, kwargs: steps.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    first, second, *_ = prompts_of(model, TEXTS)
    await whole(batches, first, 2)
    assert sum(steps) == len(first) + 1
    steps.clear()
    await whole(batches, second, 2)
    hook.remove()
    await batches.aclose()
    # All but what is left of a page.
    common = len(model.tokenizer.frame("Summarize it.").head)
    assert sum(steps) <= len(second) + 1 - common + PAGE_TOKENS


async def test_tokens_come_one_by_one_and_not_at_the_end(model: Model, batches: Batches) -> None:
    async with aclosing(batches.answer(prompts_of(model, TEXTS)[0], LONG)) as answer:
        assert len(await anext(answer)) < 10
        assert batches.under_way == 1


async def test_more_prompts_than_a_batch_holds_wait_for_their_turn(model: Model, batches: Batches) -> None:
    under_way: list[int] = []

    async def counted(prompt: Sequence[int]) -> None:
        async with aclosing(batches.answer(prompt, 40)) as answer:
            async for _ in answer:
                under_way.append(batches.under_way)

    await asyncio.gather(*(counted(prompt) for prompt in prompts_of(model, TEXTS * 2)))
    assert max(under_way) == MAX_BATCH


async def test_a_batch_holds_as_many_prompts_as_it_was_told_and_no_more(model_dir: Path) -> None:
    model = load(model_dir / MODEL, Running("cpu", "float32", 2, 4_000))
    batches = batches_of(model)
    steps: list[int] = []

    def count(module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        steps.append(kwargs["logits_to_keep"].numel())

    model.manager().model.register_forward_pre_hook(count, with_kwargs=True)
    await asyncio.gather(*(whole(batches, prompt) for prompt in prompts_of(model, TEXTS)))
    await batches.aclose()
    assert max(steps) == 2


def small(model: Model) -> tuple[Model, list[list[int]]]:
    """Return the model with a cache in which two long answers have room, and prompts that share nothing."""
    sizes = Sizes(max_tokens=700, max_input_tokens=300, step_tokens=64, cache_pages=56)
    made = Model(model.manager().model, model.tokenizer, sizes, max_batch=6)
    return made, [[100 + number] * 250 for number in range(6)]


async def test_answers_that_would_outgrow_the_cache_wait_and_are_the_answers_alone(model: Model) -> None:
    narrow, prompts = small(model)
    batches = batches_of(narrow)
    alone = [await whole(batches, prompt, 400) for prompt in prompts]
    under_way: list[int] = []

    async def counted(prompt: Sequence[int]) -> list[int]:
        async with aclosing(batches.answer(prompt, 400)) as answer:
            return [token async for tokens in answer for token in tokens if not under_way.append(batches.under_way)]  # type: ignore[func-returns-value]

    assert await asyncio.gather(*map(counted, prompts)) == alone
    assert max(under_way) == 2
    await batches.aclose()


async def test_a_full_cache_of_which_everybody_leaves_answers_those_who_come_then(model: Model) -> None:
    narrow, prompts = small(model)
    batches = batches_of(narrow)
    others = [asyncio.create_task(whole(batches, prompt, 400)) for prompt in prompts[1:]]
    said = 0
    async with aclosing(batches.answer(prompts[0], 400)) as answer:
        # By then all of them together would have outgrown it.
        while said < 200:
            said += len(await anext(answer))
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    async with asyncio.timeout(20):
        assert len(await whole(batches, prompts[1], 3)) == 3
    await batches.aclose()


async def test_who_needs_little_does_not_overtake_who_waits_for_room(model: Model) -> None:
    narrow, prompts = small(model)
    batches = batches_of(narrow)
    async with aclosing(batches.answer(prompts[0], 400)) as answer:
        await anext(answer)
        others = [asyncio.create_task(whole(batches, prompts[1], 700)), asyncio.create_task(whole(batches, [5], 1))]
        await anext(answer)
        await anext(answer)
        assert batches.under_way == 1
    await asyncio.gather(*others)
    await batches.aclose()


async def test_whoever_leaves_frees_what_worked_for_him(model: Model) -> None:
    made: list[ContinuousBatchingManager] = []

    def make() -> ContinuousBatchingManager:
        made.append(model.manager())
        return made[-1]

    batches = batches_of(model, make)
    leaving, staying, *_ = prompts_of(model, TEXTS)
    async with aclosing(batches.answer(leaving, 5_000)) as answer:
        await anext(answer)
    assert batches.under_way == 0
    # A later answer means that the manager has gone through a step, and with it what was cancelled before.
    await whole(batches, staying, 2)
    processor = made[0].batch_processor
    assert processor is not None
    assert not processor.scheduler.active_requests
    assert not processor.scheduler.waiting_requests
    await batches.aclose()


async def test_a_cancelled_task_leaves_too(model: Model, batches: Batches) -> None:
    async with answering(batches, prompts_of(model, TEXTS)[:1]):
        assert batches.under_way == 1
    assert batches.under_way == 0


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize(
    ("error", "reason", "retryable"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), Reason.OVERLOADED, True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to."), Reason.OVERLOADED, True),
        (RuntimeError("device-side assert triggered"), Reason.INTERNAL, False),
    ],
)  # fmt: skip
async def test_a_prompt_that_fails_is_told_so_and_the_others_are_answered(
    model: Model, batches: Batches, error: Exception, reason: Reason, retryable: bool
) -> None:
    prompts = prompts_of(model, TEXTS[:4])
    expected = [await whole(batches, prompt) for prompt in prompts]
    (poison,) = model.tokenizer.encode([POISON])
    failing_batches = batches_of(model, failing(model, error, lambda tokens: holds(tokens, poison)))
    (bad,) = prompts_of(model, [f"Ann: {POISON}\n"])
    # The others are in the middle of their answers when it comes.
    begun = [asyncio.Event() for _ in prompts]
    others = [
        asyncio.create_task(whole(failing_batches, prompt, begun=event))
        for prompt, event in zip(prompts, begun, strict=True)
    ]
    for event in begun:
        await event.wait()
    with pytest.raises(SttError) as caught:
        await whole(failing_batches, bad)
    assert (caught.value.reason, caught.value.retryable) == (reason, retryable)
    assert await asyncio.gather(*others) == expected
    assert await whole(failing_batches, prompts[0]) == expected[0]
    await failing_batches.aclose()


@pytest.mark.usefixtures("clean")
async def test_prompts_that_fail_only_together_are_all_answered_one_after_the_other(
    model: Model, batches: Batches
) -> None:
    prompts = prompts_of(model, TEXTS[:3])
    expected = [await whole(batches, prompt) for prompt in prompts]
    ends = tuple(model.tokenizer.frame("Summarize it.").tail[-3:])

    def is_too_much(tokens: list[int]) -> bool:
        return sum(tuple(tokens[at : at + 3]) == ends for at in range(len(tokens))) > 1

    crowded = batches_of(model, failing(model, torch.OutOfMemoryError("CUDA out of memory."), is_too_much))
    assert await asyncio.gather(*(whole(crowded, prompt) for prompt in prompts)) == expected
    await crowded.aclose()


@pytest.mark.usefixtures("clean")
async def test_what_a_cancelled_prompt_breaks_in_its_last_step_is_nobody_elses_fault(
    model: Model, batches: Batches
) -> None:
    (innocent, *_), (bad,) = prompts_of(model, TEXTS), prompts_of(model, [f"Ann: {POISON}\n"])
    (poison,) = model.tokenizer.encode([POISON])
    expected = await whole(batches, innocent)
    alone, left = threading.Event(), threading.Event()
    seen = itertools.count()

    def is_bad(tokens: list[int]) -> bool:
        if not holds(tokens, poison):
            return False
        if next(seen):  # no more among others, but alone
            alone.set()
            left.wait(20)
        return True

    failing_batches = batches_of(model, failing(model, RuntimeError("device-side assert triggered"), is_bad))
    guilty = asyncio.create_task(whole(failing_batches, bad))
    other = asyncio.create_task(whole(failing_batches, innocent))
    assert await asyncio.to_thread(alone.wait, 20)
    guilty.cancel()
    await asyncio.gather(guilty, return_exceptions=True)
    left.set()
    assert await other == expected
    await failing_batches.aclose()


async def test_what_a_manager_died_of_is_logged_with_where(model: Model) -> None:
    def make() -> ContinuousBatchingManager:
        raise ValueError("odd")

    batches = batches_of(model, make)
    with capture_logs() as logs, pytest.raises(SttError):
        await whole(batches, prompts_of(model, TEXTS)[0])
    assert [log["why"] for log in logs] == ["ValueError: odd"]
    assert "in make" in logs[0]["exception"]
    await batches.aclose()


async def test_a_manager_that_cannot_be_made_is_an_error_of_those_who_wait(model: Model) -> None:
    def make() -> ContinuousBatchingManager:
        raise MemoryError

    batches = batches_of(model, make)
    prompts = prompts_of(model, TEXTS[:2])
    results = await asyncio.gather(*(whole(batches, prompt) for prompt in prompts), return_exceptions=True)
    assert [result.reason for result in results if isinstance(result, SttError)] == [Reason.OVERLOADED] * 2
    await batches.aclose()


async def test_closing_tells_those_who_wait_for_a_manager(model: Model) -> None:
    batches = batches_of(model)
    task = asyncio.create_task(whole(batches, prompts_of(model, TEXTS)[0]))
    await asyncio.sleep(0)
    await batches.aclose()
    with pytest.raises(SttError) as caught:
        await task
    assert caught.value.reason is Reason.SHUTTING_DOWN


async def test_closing_tells_those_under_way(model: Model) -> None:
    batches = batches_of(model)
    answer = batches.answer(prompts_of(model, TEXTS)[0], 5_000)
    await anext(answer)
    await batches.aclose()
    with pytest.raises(SttError) as caught:
        async for _ in answer:
            pass
    assert caught.value.reason is Reason.SHUTTING_DOWN
