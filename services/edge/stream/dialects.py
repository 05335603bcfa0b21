"""The two dialects of /v1/stream: what a client's frames mean, and how events are told to him. Pure.

The vendor's page and the vendor's SDKs describe two different protocols at one address. The first frame alone decides
which one a client speaks: text is the page's, `Documented`; binary is the SDKs', `Sdk`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, ClassVar

from services.common.errors import SttError
from services.edge import errors, formats
from services.edge.engine import Partial, Recognized, Started
from services.edge.errors import invalid
from services.edge.stream.speakers import Named
from services.edge.transcript import Segment, join, join_segments

Message = dict[str, Any]

MAX_MESSAGE_BYTES = 65_536
"""No message but the SDK dialect's `final` is longer."""
_MAX_PARTIAL_CHARACTERS = 10_000


class Control(Enum):
    """What a frame that carries no audio asks for."""

    STOP = auto()
    NOTHING = auto()


@dataclass(frozen=True, slots=True)
class Opening:
    """What the first frame says: the dialect, the config (none in the SDK's), and audio or a stop where it is that."""

    dialect: "Dialect"
    config: Mapping[str, Any]
    first: bytes | Control


class Dialect:
    """One client's dialect; `read` is given every frame after the first, the others what there is to tell."""

    has_keys_for_both: ClassVar[bool]
    """Whether an update carries `text` and `partial` always, or `text` alone."""

    def __init__(self) -> None:
        self._interim = ""

    def read(self, frame: str | bytes) -> bytes | Control:
        """Return the audio of a frame, or what it asks for; SttError where it breaks the protocol."""
        if isinstance(frame, bytes):
            return frame or self.empty_frame
        content = _parse(frame)
        if "action" not in content:
            raise invalid('The session has its config already: send audio, or {"action": "stop"} to end it.')
        return _control(content)

    @property
    def empty_frame(self) -> Control:
        """What a binary frame without bytes asks for."""
        raise NotImplementedError

    def started(self, event: Started) -> Iterator[Message]:
        """Yield what a client hears when recognition listens."""
        yield from ()

    def partial(self, event: Partial) -> Message:
        """Return the interim text, its end where it is long."""
        self._interim = event.text[-_MAX_PARTIAL_CHARACTERS:]
        return self.beat()

    def beat(self) -> Message:
        """Return the interim text as it is; in silence it is empty."""
        if self.has_keys_for_both:
            return {"type": "partial", "text": "", "partial": self._interim}
        return {"type": "partial", "text": self._interim}

    def transcript(self, segment: Segment) -> Message:
        """Return a finalized segment, one of `pieces`."""
        self._interim = ""
        return {**self._update("transcript", segment.text), **formats.segment_to_json(segment)}

    def speakers(self, named: Sequence[Named]) -> Iterator[Message]:
        """Yield who says which segments; no message for none, several where one could not hold them."""
        message = {**self._update("speakers"), "segments": [_named_to_json(segment) for segment in named]}
        middle = len(named) // 2
        if middle and len(encode(message).encode()) > MAX_MESSAGE_BYTES:
            yield from self.speakers(named[:middle])
            yield from self.speakers(named[middle:])
        elif named:
            yield message

    def warning(self, warning: str) -> Message:
        """Return what the client should know of how speakers are named."""
        return {**self._update("speakers"), "segments": [], "warning": warning}

    def closing(self, recognized: Recognized | None) -> Message:
        """Return the last message; `recognized` is None where a session ended before it had begun."""
        raise NotImplementedError

    def _update(self, kind: str, text: str = "") -> Message:
        return {"type": kind, "text": text, **({"partial": self._interim} if self.has_keys_for_both else {})}


class Documented(Dialect):
    """The vendor's page and browsers: a config, `ready`, audio, and `{"action": "stop"}`."""

    has_keys_for_both = True
    empty_frame = Control.NOTHING

    def __init__(self) -> None:
        super().__init__()
        self._warned: set[str] = set()

    def started(self, event: Started) -> Iterator[Message]:
        """Say that audio may come, and which model will hear it."""
        self._warned.update(event.warnings)
        yield {
            "status": "ready",
            "model": event.model,
            **({"warnings": list(event.warnings)} if event.warnings else {}),
        }

    def warning(self, warning: str) -> Message:
        """Return what the client should know of how speakers are named."""
        self._warned.add(warning)
        return super().warning(warning)

    def closing(self, recognized: Recognized | None) -> Message:
        """Say that everything has been said, and what the client should know and was not told yet."""
        warnings = [w for w in recognized.warnings if w not in self._warned] if recognized is not None else []
        return {"text": "", "partial": "", "is_final": True, **({"warnings": warnings} if warnings else {})}


class Sdk(Dialect):
    """The vendor's SDKs: audio at once, ended by an empty frame; the last message repeats the whole session's text."""

    has_keys_for_both = False
    empty_frame = Control.STOP

    def __init__(self) -> None:
        super().__init__()
        self._told: list[Segment] = []

    def transcript(self, segment: Segment) -> Message:
        """Return a finalized segment, and keep its text."""
        # Of its words only the first matters for the whole text: it tells whether a space stands before it.
        self._told.append(replace(segment, words=segment.words[:1]))
        return super().transcript(segment)

    def closing(self, recognized: Recognized | None) -> Message:
        """Return the whole text, and what else is known at the end."""
        known: Message = {}
        if recognized is not None:
            known = {
                "language": recognized.language,
                "duration": round(recognized.duration_s, 3),
                "model": recognized.model,
                "warnings": list(recognized.warnings),
            }
        return {"type": "final", "final": True, "is_final": True, "text": join_segments(self._told), **known}


def open_session(frame: str | bytes) -> Opening:
    """Return what the first frame says; SttError where it is text that means nothing."""
    if isinstance(frame, bytes):
        sdk = Sdk()
        return Opening(sdk, {}, sdk.read(frame))
    content = _parse(frame)
    if "action" in content:
        return Opening(Documented(), {}, _control(content))
    return Opening(Documented(), content, Control.NOTHING)


def error_message(error: SttError, request_id: str, warnings: Sequence[str]) -> Message:
    """Return the message that stands before every close but a good one, the same in both dialects."""
    known = {"warnings": list(warnings)} if warnings else {}
    return {"type": "error", "text": "", "partial": "", **errors.body(error.message, error.reason, request_id), **known}


def encode(message: Message) -> str:
    """Return a message as it is sent."""
    return json.dumps(message, ensure_ascii=False)


def _parse(frame: str) -> dict[str, Any]:
    try:
        content = json.loads(frame)
    except (ValueError, RecursionError):
        raise invalid("A text frame is not JSON.") from None
    if not isinstance(content, dict):
        raise invalid('A text frame must be a JSON object such as {"language": "en"} or {"action": "stop"}.')
    return content


def _control(content: Mapping[str, Any]) -> Control:
    if content["action"] != "stop":
        raise invalid('Unknown action; {"action": "stop"} ends a session.')
    return Control.STOP


def pieces(segment: Segment) -> Iterator[Segment]:
    """Yield a segment whole or, where one message could not hold it, by halves."""
    middle = len(segment.words) // 2
    if not middle or len(encode(formats.segment_to_json(segment)).encode()) < MAX_MESSAGE_BYTES - 1024:
        yield segment
        return
    for words in (segment.words[:middle], segment.words[middle:]):
        yield from pieces(
            replace(segment, start_s=words[0].start_s, end_s=words[-1].end_s, text=join(words), words=words)
        )


def _named_to_json(named: Named) -> dict[str, Any]:
    parts = [{"speaker": formats.speaker_name(part.speaker), "words": part.words} for part in named.parts]
    speaker = formats.speaker_name(named.speaker)
    return {"id": named.id, "speaker": speaker, **({"parts": parts} if len(parts) > 1 else {})}
