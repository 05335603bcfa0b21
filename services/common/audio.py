"""The one audio format between programs: PCM, signed 16-bit little-endian, 16 kHz, mono, no header."""

from dataclasses import dataclass

SAMPLE_RATE = 16_000
SAMPLE_BYTES = 2
MAX_MESSAGE_BYTES = 65_536
"""Largest audio message on a gRPC stream: 2.048 s."""


@dataclass(frozen=True, slots=True)
class Flush:
    """Stands between pieces of live audio where the caller wants to have the text of everything before."""


class SampleAligner:
    """Cuts arbitrary byte chunks at sample borders: an odd last byte waits for the next chunk's first."""

    def __init__(self) -> None:
        self._carry = b""

    def push(self, data: bytes) -> bytes:
        """Return the whole samples that are complete with `data`; their byte count is even."""
        data = self._carry + data
        whole = len(data) - len(data) % SAMPLE_BYTES
        self._carry = data[whole:]
        return data[:whole]
