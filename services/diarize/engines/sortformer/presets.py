"""How a stream is cut into chunks, and what the network remembers; the figures are those of the model's card."""

from dataclasses import dataclass

FRAME_S = 0.08
"""Step of the network's answers."""


@dataclass(frozen=True, slots=True)
class Preset:
    """Lengths in frames of FRAME_S: of a chunk, of what is heard around it, and of what is kept of what came before."""

    chunk: int
    right: int
    fifo: int
    update: int
    cache: int = 188
    left: int = 1


# By the latency in seconds that they have: a chunk and what is heard after it.
PRESETS = {
    30.4: Preset(chunk=340, right=40, fifo=40, update=300),
    10.0: Preset(chunk=124, right=1, fifo=124, update=124),
    1.04: Preset(chunk=6, right=7, fifo=188, update=144),
    0.32: Preset(chunk=3, right=1, fifo=188, update=144),
}
