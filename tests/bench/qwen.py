"""Qwen's batches: what they gain on a CPU with a small model and, where there is a GPU, what one carries at true size.

The models are random: as fast as trained ones, and they all but never end, so answers have as many tokens as they may.
What is measured is the engine as the service runs it, without gRPC.
"""

import asyncio
import importlib.util
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from services.summarize.engine import Delta, Style
from tests.bench.figures import Figure, Measured
from tests.bench.plan import Plan

if TYPE_CHECKING:  # else only where PyTorch is installed
    from services.summarize.engines.qwen.batching import Batches
    from services.summarize.engines.qwen.loading import Model
    from tests.models.qwen import Size

_BATCH = 8
_PROMPT_TOKENS = 200
_ANSWER_TOKENS, _QUICK_ANSWER_TOKENS = 200, 100
# Of an hour of talk, at 150 words a minute and 1.3 tokens a word.
_HOUR_TOKENS = 11_700
_NAMES = ("Qwen tokens/s, 8 at once over one", "Qwen first token")
_GPU_NAMES = ("GPU Qwen tokens/s, one", "GPU Qwen tokens/s, 8 at once", "GPU Qwen summary of an hour")


def measure(plan: Plan, log_dir: Path) -> Measured:
    """Answer prompts one by one and eight at once; on a GPU also summarize a meeting of an hour."""
    if any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")):
        return Measured([Figure(name, None, note="not measured: no PyTorch") for name in (*_NAMES, *_GPU_NAMES)])
    import torch

    from tests.models.qwen import Size

    figures = asyncio.run(_on_cpu(plan, _load(Size(512, 2048, 8, 8, 2), "cpu", "float32")))
    if torch.cuda.is_available():
        figures += asyncio.run(_on_gpu(plan, _load(Size(1536, 8960, 28, 12, 2, 151_936), "cuda", "bfloat16")))
    else:
        figures += [Figure(name, None, note="not measured: no GPU") for name in _GPU_NAMES]
    return Measured(figures)


async def _on_cpu(plan: Plan, model: "Model") -> list[Figure]:
    plan.say("qwen: one by one, and eight at once")
    one, eight, first_s = await _rates(plan, model)
    note = f"{_PROMPT_TOKENS} tokens in; a small random model"
    return [
        Figure(_NAMES[0], eight / one, "x", note=f"{eight:.0f} over {one:.0f} tokens/s; {note}"),
        Figure(_NAMES[1], first_s * 1000, "ms", note=note),
    ]


async def _on_gpu(plan: Plan, model: "Model") -> list[Figure]:
    from services.summarize.engines.qwen.batching import Batches
    from services.summarize.engines.qwen.engine import QwenEngine

    plan.say("qwen: true size on the GPU")
    one, eight, first_s = await _rates(plan, model)
    batches = Batches(model.manager, model.max_batch, model.sizes.pages)
    took_s = []
    with ThreadPoolExecutor(1) as reader:
        engine = QwenEngine(model.tokenizer, batches, reader, model.ends, model.sizes, _BATCH // 2)
        for number in range(plan.repeats):
            # Each begins in its own way: what has been read once is not read again.
            turn = f"Speaker {number + 1}: Okay, so today we talk about the launch of the new mobile app.\n"
            (tokens,) = model.tokenizer.encode([turn])
            began = time.perf_counter()
            events = engine.summarize(turn * (_HOUR_TOKENS // len(tokens)), Style.BRIEF)
            assert [event async for event in events if isinstance(event, Delta)]
            took_s.append(time.perf_counter() - began)
    await batches.aclose()
    note = "true size, random weights"
    return [
        Figure(_GPU_NAMES[0], one, "1/s", note=f"first after {first_s * 1000:.0f} ms; {note}"),
        Figure(_GPU_NAMES[1], eight, "1/s", note=note),
        Figure(_GPU_NAMES[2], median(took_s), "s", note=f"brief, {_HOUR_TOKENS:,} tokens in, 256 out; {note}"),
    ]


async def _rates(plan: Plan, model: "Model") -> tuple[float, float, float]:
    """Return tokens a second of one prompt after the other and of eight at once, and the seconds to a first token."""
    from services.summarize.engines.qwen.batching import Batches

    length = _QUICK_ANSWER_TOKENS if plan.quick else _ANSWER_TOKENS
    batches = Batches(model.manager, model.max_batch, model.sizes.pages)
    # No two begin alike, so that all of each is computed.
    prompts = [[100 + number] * _PROMPT_TOKENS for number in range(2 * _BATCH * plan.repeats)]
    await _answer(batches, [99] * _PROMPT_TOKENS, 2)
    one, eight, first_s = [], [], []
    for _ in range(plan.repeats):
        began = time.perf_counter()
        first_s += [await _answer(batches, prompts.pop(), length) for _ in range(_BATCH)]
        one.append(_BATCH * length / (time.perf_counter() - began))
        began = time.perf_counter()
        await asyncio.gather(*(_answer(batches, prompts.pop(), length) for _ in range(_BATCH)))
        eight.append(_BATCH * length / (time.perf_counter() - began))
    await batches.aclose()
    return median(one), median(eight), median(first_s)


async def _answer(batches: "Batches", prompt: Sequence[int], length: int) -> float:
    """Read a whole answer and return the seconds to its first token."""
    began, first_s = time.perf_counter(), 0.0
    async with aclosing(batches.answer(prompt, length)) as answer:
        async for _ in answer:
            first_s = first_s or time.perf_counter() - began
    return first_s


def _load(size: "Size", device: str, dtype: str) -> "Model":
    from services.summarize.engines.qwen.loading import load
    from services.summarize.engines.qwen.running import Running
    from tests.models.qwen import save

    with tempfile.TemporaryDirectory() as folder:
        return load(save(Path(folder), size, device=device, dtype=dtype), Running(device, dtype, _BATCH, 0))
