"""Holds what a model writes to the form of its style while it comes: lines, marks and lengths, and nothing else.

Lines in good form pass unchanged, but for one that was said before. However a text is cut into pieces on its way in,
the pieces that come out make up the same.
"""

import re
from collections.abc import Iterator

from services.summarize.engine import NO_ACTION_ITEMS, Style

_BREAKS = dict.fromkeys(map(ord, "\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"), "\n") | {9: " "}
# Neither seen nor meant: control characters, direction marks, tags, what has no character.
_UNSEEN: dict[int, str | None] = {
    code: None
    for codes in (range(9), range(0x0E, 0x1C), range(0x1F, 0x20), range(0x7F, 0x85), range(0x86, 0xA0), (0x200B,),
                  range(0x202A, 0x202F), range(0x2060, 0x2070), (0xFEFF, 0xFFFD), range(0xE0000, 0xE0080))
    for code in codes
}  # fmt: skip
_MARKUP = re.compile(r"<\s?/?\s?[|\w][^<>\n]{0,30}\|\s?>|</?\s?transcript\s?>", re.IGNORECASE)
# The beginning of one, in which another may stand.
_OPENED = re.compile(r"<[^>\n]{0,80}\Z")
# Not those between letters or digits, which are powers and addresses; not those of which it is not known yet.
_EMPHASIS = re.compile(r"(?<![A-Za-z0-9*])\*{2,}(?=[^*])|\*{2,}(?![A-Za-z0-9*]|\Z)")
_NOT_SURE = re.compile(r"[^*]?\**\Z")
_FENCE = "```"
_MARK = re.compile(r"(?:\s|[-–—*•·▪●>]+(?=\s|[•·▪●])|[•·▪●]|#+\s)+")
_NUMBER = re.compile(r"\(?\d{1,2}(?:[.)]\s+|、|[.)](?=[\u2e80-\u9fff\uac00-\ud7a3]))")
_NOTHING = re.compile(r"no action items(?: were found)?\s*(?:$|[.!])", re.IGNORECASE)
# So much of a line tells how it begins, and whether it is that.
_ENOUGH_CHARS = len(NO_ACTION_ITEMS) + 2
_MAX_PREAMBLE_CHARS = 60
# By these words a first line that ends with a colon announces what was asked for; any other one is part of it.
_PREAMBLE = re.compile(
    r"summar|transcript|main points|key points|action items|headline|zusammenfassung|résumé|resum[eo]|riassunto"
    r"|摘要|总结|總結|要点|概要|まとめ|요약|ملخص|резюме|кратко|итог",
    re.IGNORECASE,
)
_MAX_REPEATS = 3
_MAX_HEADLINE_CHARS = 120
_QUOTED = re.compile('[\'"“„«‘「『*_`]([^"“”„«»「」『』]+)[\'"“”»’」』*_`]')
_FULL_STOP = re.compile(r"(?<!\.)[.。।]$")
_ABBREVIATION = re.compile(r"\b(?:\w\.\w|Inc|Ltd|Corp|Co|Jr|Sr|etc)\.$")
_SPACELESS = ("。", "！", "？")


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
    lines that were said before, and what looks like the borders of messages. `nothing` is a line that stands alone: it
    is said in the end if there is no other.
    """

    def __init__(self, joint: str, mark: str, max_lines: int, *, nothing: str = "") -> None:
        self._joint, self._mark, self._max_lines, self._nothing = joint, mark, max_lines, nothing
        self._raw = ""
        self._line = ""
        self._is_inside = False
        self._space = ""
        self._last = ""
        self._said: list[str] = []
        self._lines = self._repeats = 0
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
        plain = _EMPHASIS.sub("", f"{self._raw}\n" if is_all else self._raw)
        while (less := _MARKUP.sub(" ", plain)) != plain:
            plain = less
        at = len(plain)
        if not is_all:
            at -= len(_NOT_SURE.search(plain)[0])  # type: ignore[index]  # it matches anything
            if opened := _OPENED.search(plain, 0, at):
                at = opened.start()
        self._raw = plain[at:]
        return plain[:at]

    def _forward(self, text: str, *, is_all: bool) -> Iterator[str]:
        *whole, open_line = text.split("\n")
        for line in whole:
            yield from self._extend(line, is_whole=True)
        yield from self._extend(open_line, is_whole=is_all)

    def _extend(self, piece: str, *, is_whole: bool) -> Iterator[str]:
        """Add a piece to the line that is being written, which ends with it or may go on."""
        if not self.is_full:
            self._line += piece
            if self._is_inside:
                yield self._spaced(piece)
            else:
                yield from self._begin(is_whole=is_whole)
        if is_whole:
            if self._is_inside:
                self._said.append(self._line.strip())
            self._line, self._space, self._is_inside = "", "", False

    def _begin(self, *, is_whole: bool) -> Iterator[str]:
        """Begin a line once it is clear how it begins, and that it is one."""
        line = _MARK.sub("", self._line, count=1) if _MARK.match(self._line) else self._line
        if self._mark and len(line) == len(self._line.lstrip()):
            line = _NUMBER.sub("", line, count=1) if _NUMBER.match(line) else line
        is_first = not self._lines and len(line) == len(self._line.lstrip())
        written = line.strip()
        if is_whole and written in self._said:
            self._repeats += 1
            self.is_full = self._repeats == _MAX_REPEATS
            return
        if not is_whole and any(said.startswith(written) for said in self._said):
            return
        if not is_whole and len(written) < (_MAX_PREAMBLE_CHARS if is_first else _ENOUGH_CHARS):
            return
        if line.startswith(_FENCE) or not any(char.isalnum() for char in line):
            return
        if is_first and len(written) < _MAX_PREAMBLE_CHARS and _announces(written):
            return
        if self._nothing and _NOTHING.match(line):
            return
        if self._lines == self._max_lines:
            self.is_full = True
            return
        joint = "" if self._joint == " " and self._last in _SPACELESS else self._joint
        self._line = line.lstrip()
        yield f"{joint if self._lines else ''}{self._mark}{self._spaced(self._line)}"
        self._lines += 1
        self._is_inside = True

    def _spaced(self, piece: str) -> str:
        """Return the piece, and the spaces before it that turned out not to be the line's last."""
        kept = (self._space + piece).rstrip()
        self._space = (self._space + piece)[len(kept) :]
        self._last = kept[-1:] or self._last
        return re.sub(r"\s{2,}", " ", kept)


def _announces(line: str) -> bool:
    return line.endswith((":", "：")) and _PREAMBLE.search(line) is not None


class Headline(Form):
    """One line without quotes around it and a full stop, which is said when it is whole."""

    def __init__(self) -> None:
        super().__init__("\n", "", 1)
        self._headline = ""

    def push(self, text: str) -> str:
        """Keep the piece."""
        self._headline += super().push(text)
        self.is_full = self.is_full or len(self._headline) > _MAX_HEADLINE_CHARS
        return ""

    def end(self, *, is_cut: bool = False) -> str:
        """Return the headline."""
        said = (self._headline + super().end()).strip()
        if quoted := _QUOTED.fullmatch(said):
            said = quoted[1].strip()
            said = said[mark.end() :] if (mark := _MARK.match(said)) else said
        if not _ABBREVIATION.search(said):
            said = _FULL_STOP.sub("", said)
        if is_cut or len(said) > _MAX_HEADLINE_CHARS:
            said = said[: _MAX_HEADLINE_CHARS - 1].rstrip() + "…"
        return said
