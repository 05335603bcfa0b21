"""How the model is run."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Running:
    """On "auto", "cpu" or "cuda", in "auto" or a type of torch's, so many prompts at once.

    A text has at most `max_input_tokens` in one pass; 0 is what suits the device.
    """

    device: str
    dtype: str
    max_batch: int
    max_input_tokens: int
