"""What the parent tells the decoding child (one JSON argument) and what the child reports (one JSON line). No I/O."""

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum


class Failure(StrEnum):
    """Why there is no PCM."""

    UNSUPPORTED = "unsupported"
    NO_AUDIO = "no_audio"
    UNDECODABLE = "undecodable"
    TOO_LONG = "too_long"
    NO_SPACE = "no_space"


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

    `broken_packets` could not be read or decoded and were left out. `unconfined` names the parts of the sandbox
    that this kernel would not apply. `detail` is for the log, never for the caller.
    """

    samples: int = 0
    broken_packets: int = 0
    failure: Failure | None = None
    detail: str = ""
    unconfined: list[str] = field(default_factory=list)

    def to_json(self) -> bytes:
        """Return the report as one JSON line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> "Report":
        """Read what `to_json` wrote; anything else is a ValueError, for the writer may have been taken over."""
        try:
            fields = json.loads(line)
            report = cls(**{**fields, "failure": Failure(fields["failure"]) if fields["failure"] else None})
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError("not a report") from error
        if not (isinstance(report.samples, int) and isinstance(report.broken_packets, int)):
            raise ValueError("not a report")
        return report
