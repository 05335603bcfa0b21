"""How the model is run."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Running:
    """On "auto", "cpu" or "cuda", in "auto" or a type of torch's, so many prompts at once.

    A prompt with its answer has at most `max_tokens`.
    """

    device: str
    dtype: str
    max_batch: int
    max_tokens: int
