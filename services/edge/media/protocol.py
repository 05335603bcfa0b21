"""What the parent tells the decoding child (one JSON argument) and what the child reports (one JSON line). No I/O."""

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum


class Failure(StrEnum):
    """Why there is no PCM."""

    UNSUPPORTED = "unsupported"
    UNSUPPORTED_CODEC = "unsupported_codec"
    NO_AUDIO = "no_audio"
    UNDECODABLE = "undecodable"
    TOO_LONG = "too_long"
    NO_SPACE = "no_space"


class Choice(StrEnum):
    """Why these tracks of several."""

    DEFAULT = "default"
    LANGUAGE = "language"
    MIXED = "mixed"


@dataclass(frozen=True)
class Tracks:
    """Which of a file's audio tracks were decoded, by their numbers from 1; `unsupported` names the others' codecs."""

    total: int = 1
    used: list[int] = field(default_factory=list)
    choice: Choice = Choice.MIXED
    unsupported: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """One decoding: file descriptors are the child's own, the upload is its standard input."""

    parent_pid: int
    pcm_fd: int
    max_samples: int
    memory_bytes: int
    cpu_s: int

    def to_json(self) -> str:
        """Return the job as one JSON argument."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Report:
    """How a decoding ended: `samples` at 16 kHz were written, or there is a `failure`.

    `heard_samples` of them are the file's, the others pauses. `lost` are places in seconds where audio was broken and
    left out, with its seconds, 0 where they are not known; of many, the first. `missing_s` is how much less there was
    than the file says. `distrusted_s` are places where its time stamps were not believed. `unread` recordings, of
    several one behind the other, could not be decoded. `codec` is the one that is not supported. `unconfined` names the
    parts of the sandbox that this kernel would not apply. `detail` is for the log, never for the caller.
    """

    samples: int = 0
    heard_samples: int = 0
    lost: list[tuple[float, float]] = field(default_factory=list)
    lost_count: int = 0
    missing_s: float = 0.0
    distrusted_s: list[float] = field(default_factory=list)
    unread: int = 0
    tracks: Tracks = field(default_factory=Tracks)
    failure: Failure | None = None
    codec: str = ""
    detail: str = ""
    unconfined: list[str] = field(default_factory=list)

    def to_json(self) -> bytes:
        """Return the report as one JSON line."""
        return json.dumps(asdict(self)).encode() + b"\n"
