"""What the edge needs of the services behind it, in its own words; gRPC is in `backends`."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from services.edge.params import SpeechParams
from services.edge.transcript import Segment, Turn

Speed = Literal["standard", "fast", "very_fast"]
Kind = Literal["recording", "live", "text"]
"""What a request is about."""
Style = Literal["brief", "detailed", "action_items", "bullet_points", "headline"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage of the work is: seconds of audio dealt with."""

    stage: Literal["transcription", "diarization"]
    processed_s: float


@dataclass(frozen=True, slots=True)
class Started:
    """Recognition listens: which model it is, and what the caller should know already now."""

    model: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Partial:
    """What the segment that is being spoken sounds like so far."""

    text: str


@dataclass(frozen=True, slots=True)
class Recognized:
    """Recognition is complete: which model ran, what it took the language for, and what the caller should know.

    `voiced_s`: seconds in which voice was heard, with words or without.
    """

    model: str
    language: str
    duration_s: float
    warnings: tuple[str, ...]
    voiced_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Update:
    """Who spoke lately in a live session: `turns` replace everything that was told from `since_s` on.

    What lies before it does not change any more; up to `until_s` the audio has been looked at. Neither ever falls.
    """

    since_s: float
    until_s: float
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Diarized:
    """Diarization is complete; of a live session the turns have been told before, in updates."""

    turns: tuple[Turn, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """A finished summary."""

    text: str
    model: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """A recognition model; `languages` is how many it knows."""

    id: str
    name: str
    languages: int
    speed: Speed
    description: str
    available: bool


@dataclass(frozen=True, slots=True)
class Device:
    """What recognition runs on; `name` is empty and `memory_mib` 0 without a GPU."""

    is_gpu: bool
    name: str
    memory_mib: int


@dataclass(frozen=True, slots=True)
class Catalog:
    """The models of the recognition service and their device."""

    models: Sequence[Model]
    device: Device


class Recording(Protocol):
    """PCM that can be read any number of times at once, each reader at its own pace."""

    def chunks(self, chunk_bytes: int) -> AsyncIterator[bytes]:
        """Yield the recording from its start in pieces of `chunk_bytes`, the last one shorter."""


class SpeechBackends(Protocol):
    """The services that a transcription needs; every method ends with SttError after its deadline, if not before."""

    def transcribe(
        self, recording: Recording, duration_s: float, params: SpeechParams
    ) -> AsyncGenerator[Progress | Segment | Recognized, None]:
        """Yield what recognition does, segments in the order of time and one Recognized at the end."""

    def diarize(
        self, recording: Recording, duration_s: float, speakers: int
    ) -> AsyncGenerator[Progress | Diarized, None]:
        """Yield how far diarization is, and one Diarized at the end; `speakers` 0 finds their number out."""
