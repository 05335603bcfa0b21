"""Makes a spoken sentence readable: fillers, false starts and repeated words go; no word is added or changed."""

import re

from services.summarize.engines.extractive.wordlist import word_set

_FILLER = re.compile(
    r"(?:(?<=[\s,.…–—-])|^)(?:[Uu]+[hm]+|[Uu]hm+|[Ee]r+m?|[Hh]m+|[Mm]m+|[Mm]hm|[Uu]h-huh"
    r"|[Aa]h)(?![\w'’-])(?:[,.…]*(?=\s|$))\s*"
)
_YOU_KNOW = re.compile(
    r"(?<!\bdo )(?<!\bdid )(?<!\bif )(?<!\bas )(?<!\blet )(?<!\bhow )(?<!\bwould )(?<!\bthing )(?<!\bwhat )(?<!n't )"
    r"\byou know\b(?! (?:what|that|how|who|where|when|why|about|the|it|if|him|her|them|me|us|my|your"
    r"|this|these|which|any)\b)"
    r",?",
    re.IGNORECASE,
)
_ASIDE = re.compile(r"(?:^|(?<=,\s))(?:i mean|like|basically|sort of|kind of|let's see),\s*", re.IGNORECASE)
_CUT_OFF = re.compile(r"(?<!\S)[^\W\d_]{1,6}-(?=\s+[^\W\d_])(?!\s+(?:to|and|or)\b)\s+")
_WORD = r"[^\W_]+(?:['’][^\W_]+)?"
_REPEATED = re.compile(rf"\b({_WORD}(?: {_WORD}){{0,3}})(?:,? \1\b(?!['’]))+", re.IGNORECASE)
_MEANT_TWICE = word_set(
    """
    had that zero oh one two three four five six seven eight nine ten hundred double bye
    """
)
_SPACES = re.compile(r"\s+")
_SPACE_BEFORE = re.compile(r"\s+([,.;:!?…](?:\s|$))")
_DOUBLED_COMMA = re.compile(r",\s*(?=[,.;:!?])")
_LEADING = " \t,;:.!?…–—-"


def clean(sentence: str) -> str:
    """Return the sentence without what speech leaves behind, capitalised; empty when nothing else was in it."""
    text = _FILLER.sub("", sentence)
    text = _YOU_KNOW.sub("", text)
    text = _ASIDE.sub("", text)
    text = _CUT_OFF.sub("", text)
    text = _SPACES.sub(" ", text)
    text = _REPEATED.sub(_once, text)
    text = _SPACE_BEFORE.sub(r"\1", text)
    text = _DOUBLED_COMMA.sub("", text)
    return capitalize(text.lstrip(_LEADING).rstrip(" ,;:–—-"))


def capitalize(text: str) -> str:
    """Return the text with its first letter in upper case, where that is one letter."""
    first = text[:1].upper()
    return first + text[1:] if len(first) == 1 else text


def clip(text: str, max_chars: int) -> str:
    """Return the text within a number of characters, cut between words and marked with an ellipsis where it was cut."""
    if len(text) <= max_chars:
        return text
    kept = text[: max_chars - 1]
    if not text[max_chars - 1].isspace():
        kept = kept.rpartition(" ")[0] or kept
    return kept.rstrip(" ,;:–—-") + "…"


def _once(match: re.Match[str]) -> str:
    words = match[1].lower().split()
    is_meant = any(word in _MEANT_TWICE or word.isnumeric() for word in words)
    return match[0] if is_meant else match[1]
