"""Reads a transcript as turns: who spoke, and what.

Line structure belongs here: speaker labels, subtitle cues, wrapped lines, characters nobody sees. Sentences do not.
"""

import re
from dataclasses import dataclass

_LABEL_CHARS = 40
# Nobody sees these: control characters (line breaks are gone by then), direction marks, byte order mark, soft hyphen,
# tags.
_INVISIBLE: dict[int, str | None] = {
    code: None
    for codes in (range(0x20), range(0x7F, 0xA0), (0xAD, 0xFEFF), range(0x200B, 0x200C), range(0x200E, 0x2010),
                  range(0x202A, 0x202F), range(0x2060, 0x2070), range(0xFFF9, 0xFFFC), range(0xE0000, 0xE0080))
    for code in codes
} | {0x09: " "}  # fmt: skip
_CUE_TIME = re.compile(r"^[\d:.,]{5,12} --> [\d:.,]{5,12}")
_TAG = re.compile(r"</?(?:[bciu]|v|ruby|rt|lang|font)(?:[ .][^<>]{0,60})?>")
_VOICE = re.compile(r"<v(?:\.[\w.]+)? ([^<>]{1,40})>")
_CLOCK = re.compile(r"^(?:[\[(]\d{1,2}(?::\d{2}){1,2}(?:[.,]\d{1,3})?[\])]|\d{1,2}:\d{2}:\d{2}(?:[.,]\d{1,3})?)\s*")
_LABEL = re.compile(r"([^\W\d_][\w.'’&-]*(?: [\w.'’&()-]+){0,3}) ?(?::(?: |$)|：)")
_INLINE_LABEL = re.compile(r"(?<=\S) (?=speaker[ _]\d{1,3} ?: )", re.IGNORECASE)
_NOT_A_NAME = re.compile(
    r"action|action items?|agenda|answer|conclusion|decision|example|follow[ -]ups?|https?|idea|important|notes?"
    r"|next steps?|outcome|ps|question|remember|reminder|result|summary|tasks?|to[ -]?do|topic|update|warning",
    re.IGNORECASE,
)
_TERMINAL = re.compile(r"[.!?…。！？؟।॥።։]")
_ENDS_TERMINAL = re.compile(r"[.!?…。！？؟।॥።։:][\"'”’)\]»」』]*$")


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker said without a break; the speaker is None where the transcript does not say."""

    speaker: str | None
    text: str


def read_turns(text: str) -> list[Turn]:
    """Split a transcript (plain lines, labelled lines, SRT or WebVTT) into turns without empty text."""
    is_cues = " --> " in text
    # Where sentences have ends a line without one goes on in the next; elsewhere the line is all there is to go by.
    joins_lines = is_cues or len(_TERMINAL.findall(text)) * 40 > text.count(" ")
    turns: list[tuple[str | None, list[str]]] = []
    speaker: str | None = None
    is_open = False
    for raw in text.splitlines():
        line = " ".join(raw.translate(_INVISIBLE).split())
        if is_cues:
            if not line or line.isdecimal() or line.startswith("WEBVTT") or _CUE_TIME.match(line):
                continue
            line = _TAG.sub("", _VOICE.sub(r"\1: ", line))
        if not line:
            is_open = False
            continue
        for part in _INLINE_LABEL.split(_CLOCK.sub("", line)):
            label, words = _split_label(part)
            if label is not None and label != speaker:
                speaker, is_open = label, False
            elif label is not None and not is_cues:
                is_open = False
            if not words:
                continue
            if is_open:
                turns[-1][1].append(words)
            else:
                turns.append((speaker, [words]))
            is_open = is_cues or (joins_lines and not _ENDS_TERMINAL.search(words[-8:]))
    return [Turn(who, " ".join(parts)) for who, parts in turns]


def visible(text: str) -> str:
    """Return the text on one line without what nobody sees."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _split_label(line: str) -> tuple[str | None, str]:
    match = _LABEL.match(line[: _LABEL_CHARS + 2])
    if match is None:
        return None, line
    name = match[1]
    looks_named = all(not word[0].islower() for word in name.split()) or name.lower().startswith("speaker")
    if not looks_named or _NOT_A_NAME.fullmatch(name):
        return None, line
    return name, line[match.end() :].strip()
