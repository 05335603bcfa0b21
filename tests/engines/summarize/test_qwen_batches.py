"""Many prompts at once through the real manager: the same answers, cancellation, and what goes wrong in it.

The model is random: it shows the plumbing, not summaries.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest
import torch
from transformers.generation.continuous_batching import ContinuousBatchingManager

from services.common.errors import Reason, SttError
from services.summarize.engines.qwen.batching import Batches
from services.summarize.engines.qwen.loading import PAGE_TOKENS, Model
from tests.engines.summarize.conftest import MAX_BATCH

TEXTS = [f"Speaker {number}: We talk about launch number {number}{'!' * number}\n" for number in range(12)]
POISON = "Ω"
LONG = 400


def prompts_of(model: Model, texts: Sequence[str]) -> list[list[int]]:
    frame = model.tokenizer.frame("Summarize it.")
    return [frame.around(tokens) for tokens in model.tokenizer.encode(texts)]


async def whole(batches: Batches, prompt: Sequence[int], max_tokens: int = 40) -> list[int]:
    async with aclosing(batches.answer(prompt, max_tokens)) as answer:
        return [token async for tokens in answer for token in tokens]


async def begun(batches: Batches, count: int) -> None:
    """Wait until so many prompts are under way: nobody tells of it, so it is looked for."""
    async with asyncio.timeout(10):
        while batches.under_way < count:  # noqa: ASYNC110
            await asyncio.sleep(0)


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

    batches = Batches(make)
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
    answers = await asyncio.gather(*(whole(batches, prompt) for prompt in prompts_of(model, TEXTS * 2)))
    assert len(answers) > 2 * MAX_BATCH
    assert all(answers)


async def test_whoever_leaves_frees_what_worked_for_him(model: Model) -> None:
    made: list[ContinuousBatchingManager] = []

    def make() -> ContinuousBatchingManager:
        made.append(model.manager())
        return made[-1]

    batches = Batches(make)
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
    task = asyncio.create_task(whole(batches, prompts_of(model, TEXTS)[0], 5_000))
    await begun(batches, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
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
    failing_batches = Batches(failing(model, error, lambda tokens: holds(tokens, poison)))
    (bad,) = prompts_of(model, [f"Ann: {POISON}\n"])
    # The others are in the middle of their answers when it comes.
    others = [asyncio.create_task(whole(failing_batches, prompt)) for prompt in prompts]
    await begun(failing_batches, len(others))
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

    crowded = Batches(failing(model, torch.OutOfMemoryError("CUDA out of memory."), is_too_much))
    assert await asyncio.gather(*(whole(crowded, prompt) for prompt in prompts)) == expected
    await crowded.aclose()


async def test_a_manager_that_cannot_be_made_is_an_error_of_those_who_wait(model: Model) -> None:
    def make() -> ContinuousBatchingManager:
        raise MemoryError

    batches = Batches(make)
    prompts = prompts_of(model, TEXTS[:2])
    results = await asyncio.gather(*(whole(batches, prompt) for prompt in prompts), return_exceptions=True)
    assert [result.reason for result in results if isinstance(result, SttError)] == [Reason.OVERLOADED] * 2
    await batches.aclose()


async def test_closing_tells_those_who_wait_for_a_manager(model: Model) -> None:
    batches = Batches(model.manager)
    task = asyncio.create_task(whole(batches, prompts_of(model, TEXTS)[0]))
    await asyncio.sleep(0)
    await batches.aclose()
    with pytest.raises(SttError) as caught:
        await task
    assert caught.value.reason is Reason.SHUTTING_DOWN


async def test_closing_tells_those_under_way(model: Model) -> None:
    batches = Batches(model.manager)
    answer = batches.answer(prompts_of(model, TEXTS)[0], 5_000)
    await anext(answer)
    await batches.aclose()
    with pytest.raises(SttError) as caught:
        async for _ in answer:
            pass
    assert caught.value.reason is Reason.SHUTTING_DOWN
