"""Holds what a model writes to the form of its style while it comes: whatever it writes, the form is kept.

What is in good form passes unchanged; nothing is judged but the form. However a text is cut into pieces on its way in,
the pieces that come out make up the same.
"""

import re
from collections.abc import Iterator

from services.summarize.engine import NO_ACTION_ITEMS, Style

_BREAKS = dict.fromkeys(map(ord, "\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"), "\n") | {9: " "}
# Neither seen nor meant: control characters, direction marks, what has no character.
_UNSEEN: dict[int, str | None] = {
    code: None
    for codes in (range(9), range(0x0E, 0x1C), range(0x1F, 0x20), range(0x7F, 0x85), range(0x86, 0xA0),
                  range(0x202A, 0x202F), (0xFEFF, 0xFFFD))
    for code in codes
}  # fmt: skip
_MAX_MARKUP_CHARS = 40
_MARKUP = re.compile(r"<\s?/?\s?[|\w][^<>\n]{0,30}\|\s?>|</?\s?transcript\s?>", re.IGNORECASE)
_EMPHASIS = re.compile(r"\*{2,}")
_FENCE = "```"
_MARK = re.compile(r"(?:\s|[-–—*•·▪●>]+(?=\s|[•·▪●])|[•·▪●]|#+\s|[-=*_#]{2,})+")
_NUMBER = re.compile(r"\(?\d{1,2}[.)]\s+")
# So much of a line tells how it begins.
_ENOUGH_CHARS = 16
_MAX_PREAMBLE_CHARS = 60
_MAX_HEADLINE_CHARS = 120
_QUOTES = " \"'“”„«»‘’「」『』*_#`"


def form(style: Style) -> "Form":
    """Return what holds one summary to the form of `style`."""
    match style:
        case Style.BRIEF:
            return Form(" ", "", 8)
        case Style.DETAILED:
            return Form("\n\n", "", 24)
        case Style.BULLET_POINTS:
            return Form("\n", "- ", 12)
        case Style.ACTION_ITEMS:
            return Form("\n", "- ", 60, nothing=NO_ACTION_ITEMS)
        case Style.HEADLINE:
            return Headline()


class Form:
    """Lines that are put together with `joint` and begin with `mark`, at most `max_lines` of them.

    Left out are marks of lists and headings, lines without a letter or digit, a first line that announces the others,
    and what looks like the borders of messages. `nothing` is the only line where the first one begins as it does, or
    where there is none.
    """

    def __init__(self, joint: str, mark: str, max_lines: int, *, nothing: str = "") -> None:
        self._joint, self._mark, self._max_lines, self._nothing = joint, mark, max_lines, nothing
        self._raw = ""
        self._line = ""
        self._is_inside = False
        self._space = ""
        self._lines = 0
        self.is_full = False
        """Whether nothing that may still come will be in the summary."""

    def push(self, text: str) -> str:
        """Return what can be said for sure of the summary with this piece of what the model writes."""
        self._raw += text.translate(_UNSEEN).translate(_BREAKS)
        return "".join(self._forward(self._take(is_all=False), is_all=False))

    def end(self, *, is_cut: bool = False) -> str:
        """Return the rest; an ellipsis at the end says that the summary `is_cut`."""
        rest = "".join(self._forward(self._take(is_all=True), is_all=True))
        if not self._lines and self._nothing:
            return self._nothing
        return f"{rest}…" if is_cut and self._lines and not self.is_full else rest

    def _take(self, *, is_all: bool) -> str:
        """Return what has come without markup; what may be the beginning of some stays behind."""
        plain = self._raw if is_all else self._raw.rstrip("*")
        stars, plain = self._raw[len(plain) :], _EMPHASIS.sub("", plain)
        opened = -1 if is_all else plain.rfind("<", max(0, len(plain) - _MAX_MARKUP_CHARS))
        at = opened if opened >= 0 and ">" not in plain[opened:] else len(plain)
        self._raw = plain[at:] + stars
        return _MARKUP.sub(" ", plain[:at])

    def _forward(self, text: str, *, is_all: bool) -> Iterator[str]:
        *whole, open_line = text.split("\n")
        for line in whole:
            yield from self._extend(line, is_whole=True)
        yield from self._extend(open_line, is_whole=is_all)

    def _extend(self, piece: str, *, is_whole: bool) -> Iterator[str]:
        """Add a piece to the line that is being written, which ends with it or may go on."""
        if not self.is_full:
            if self._is_inside:
                yield self._spaced(piece)
            else:
                self._line += piece
                yield from self._begin(is_whole=is_whole)
        if is_whole:
            self._line, self._space, self._is_inside = "", "", False

    def _begin(self, *, is_whole: bool) -> Iterator[str]:
        """Begin a line once it is clear how it begins, and that it is one."""
        line = _MARK.sub("", self._line, count=1) if _MARK.match(self._line) else self._line
        has_mark = len(line) < len(self._line.lstrip())
        if self._mark and not has_mark:
            line = _NUMBER.sub("", line, count=1) if _NUMBER.match(line) else line
            has_mark = len(line) < len(self._line.lstrip())
        enough = _MAX_PREAMBLE_CHARS if not self._lines and not has_mark else _ENOUGH_CHARS
        if not is_whole and len(line.strip()) < enough:
            return
        if line.startswith(_FENCE) or not any(char.isalnum() for char in line):
            return
        is_short = is_whole and len(line.strip()) < _MAX_PREAMBLE_CHARS
        if is_short and not self._lines and not has_mark and line.rstrip().endswith((":", "：")):
            return
        if self._nothing and not self._lines and line.lower().startswith(self._nothing[:15].lower()):
            self._lines, self.is_full = 1, True
            yield self._nothing
            return
        if self._lines == self._max_lines:
            self.is_full = True
            return
        yield f"{self._joint if self._lines else ''}{self._mark}{self._spaced(line.lstrip())}"
        self._lines += 1
        self._is_inside = True

    def _spaced(self, piece: str) -> str:
        """Return the piece, and the spaces before it that turned out not to be the line's last."""
        kept = (self._space + piece).rstrip()
        self._space = (self._space + piece)[len(kept) :]
        return re.sub(r"\s{2,}", " ", kept)


class Headline(Form):
    """One line without quotes and full stop, which is said when it is whole."""

    def __init__(self) -> None:
        super().__init__("\n", "", 1)
        self._said = ""

    def push(self, text: str) -> str:
        """Keep the piece."""
        self._said += super().push(text)
        self.is_full = self.is_full or len(self._said) > _MAX_HEADLINE_CHARS
        return ""

    def end(self, *, is_cut: bool = False) -> str:
        """Return the headline."""
        said = (self._said + super().end()).strip(_QUOTES)
        if said.endswith(".") and not said.endswith("..."):
            said = said[:-1]
        if is_cut or len(said) > _MAX_HEADLINE_CHARS:
            said = said[: _MAX_HEADLINE_CHARS - 1].rstrip() + "…"
        return said
