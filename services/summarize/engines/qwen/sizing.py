"""How much is read, computed and kept at once, and the memory that takes."""

from dataclasses import dataclass
from math import ceil
from typing import Any, Self

PAGE_TOKENS = 32
"""What the cache is given out in; the least that prompts which begin alike share."""
MORE_TOKENS = 4096
"""Tokens of a pass besides the text: what is said around it, and the answer."""
# Of a text in one pass; a CPU reads so many in some minutes, at the true size of the model.
_INPUT_TOKENS = {"cuda": 30_000, "cpu": 6_000}
# Computed in one step: more are faster, and keep those who are being answered waiting for longer.
_STEP_TOKENS = {"cuda": 2048, "cpu": 128}
# Transcripts of the longest kind that have room at once. Of shorter ones there are more; who finds no room waits.
_ROOM = {"cuda": 4, "cpu": 2}
# The rest keeps what prompts begin with. It is the manager's own margin, too: beyond it no prompt would be begun.
_SHARE = 0.85
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a prompt with its answer has at most, and the text in it; and the pages of the cache."""

    max_tokens: int
    max_input_tokens: int
    step_tokens: int
    cache_pages: int

    @classmethod
    def on(cls, kind: str, max_input_tokens: int, positions: int, max_batch: int) -> Self:
        """Return those for a device, "cuda" or "cpu", and a model of so many positions.

        0 input tokens are as many as suit the device; `max_batch` are the answers that are under way at once.
        """
        asked = max_input_tokens or _INPUT_TOKENS[kind]
        max_tokens, step_tokens = min(asked + MORE_TOKENS, positions), _STEP_TOKENS[kind]
        # What one step may add has to fit into the margin: the manager looks at it only between steps.
        step_pages = step_tokens // PAGE_TOKENS + min(max_batch, step_tokens)
        pages = max(_ROOM[kind] * (max_tokens // PAGE_TOKENS + 2), ceil(step_pages / (1 - _SHARE)))
        return cls(max_tokens, asked, step_tokens, pages)

    @property
    def pages(self) -> int:
        """How many pages all that is under way may come to."""
        return int(_SHARE * self.cache_pages)

    @property
    def cache_tokens(self) -> int:
        """How many tokens the cache holds."""
        return self.cache_pages * PAGE_TOKENS

    def cache_mib(self, config: Any, number_bytes: int) -> float:
        """Return what the cache of a model with this configuration takes, and a step that reads all of it.

        A step has the keys and values of one layer for every head, and a mask.
        """
        head = config.hidden_size // config.num_attention_heads
        kept = 2 * config.num_key_value_heads * head * config.num_hidden_layers
        read = (2 * config.num_attention_heads + config.num_key_value_heads) * head
        return float(self.cache_tokens * (kept + read + self.step_tokens) * number_bytes) / _MIB
