"""How written words are said: numerals, symbols and abbreviations as words of the spoken language.

Text only; the sounds of a word are in `phones`, its place in the audio is found by the alignment. Every written word
becomes slots, and every slot has alternatives ("1984" is a year, a number or four digits): the alignment picks
what was said, and the slots say which written word it belongs to.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from num2words import num2words

Alternative = tuple[str, ...]
Slot = tuple[Alternative, ...]

_TOKEN = re.compile(
    r"(?P<currency>[$£€])?(?P<number>\d[\d,]*)(?P<decimals>\.\d+)?(?P<suffix>%|'?s\b|st\b|nd\b|rd\b|th\b)?"
    r"|(?P<word>[a-z]+(?:'[a-z]+)*)|(?P<symbol>[&@+%=°])"
)
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_CURRENCIES = {"$": ("dollar", "dollars"), "£": ("pound", "pounds"), "€": ("euro", "euros")}
_SYMBOLS: dict[str, Slot] = {
    "&": (("and",),),
    "@": (("at",),),
    "+": (("plus",),),
    "%": (("percent",), ("per", "cent")),
    "=": (("equals",), ("is",)),
    "°": (("degrees",), ("degree",)),
}
_TITLES = {
    "mr": "mister",
    "mrs": "missus",
    "dr": "doctor",
    "st": "saint",
    "vs": "versus",
    "etc": "etcetera",
    "jr": "junior",
    "sr": "senior",
    "prof": "professor",
}
_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+")
_MAX_CARDINAL_DIGITS = 15


def slots(written: str) -> list[Slot]:
    """Return what is said for one written word, slot by slot; nothing for a mark that is not said.

    Spoken words are lower-case ASCII letters and apostrophes. An alternative without words may stay unsaid.
    """
    folded = unicodedata.normalize("NFKD", written.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")).lower()
    plain = "".join(character for character in folded if not unicodedata.combining(character))
    return [slot for token in _TOKEN.finditer(plain) for slot in _token_slots(token, written)]


def match(said: Sequence[str], graph: Sequence[Slot]) -> list[int] | None:
    """Return how many of the words that were said belong to each slot, or None when they are not a way through."""
    # Every reachable position in `said` with the counts that lead there; the first way found is as good as any.
    ways: dict[int, list[int]] = {0: []}
    for slot in graph:
        onward: dict[int, list[int]] = {}
        for position, counts in ways.items():
            for alternative in slot:
                end = position + len(alternative)
                if tuple(said[position:end]) == alternative:
                    onward.setdefault(end, [*counts, len(alternative)])
        ways = onward
    return ways.get(len(said))


def _token_slots(token: re.Match[str], written: str) -> Iterator[Slot]:
    if word := token["word"]:
        yield _word_slot(word, written)
    elif symbol := token["symbol"]:
        yield _SYMBOLS[symbol]
    else:
        yield from _number_slots(token)


def _word_slot(word: str, written: str) -> Slot:
    if word in _TITLES:
        return ((_TITLES[word],), (word,))
    if len(word) > 1 and (written.isupper() or not re.search("[aeiouy]", word)):
        return ((word,), tuple(word.replace("'", "")))
    return ((word,),)


def _number_slots(token: re.Match[str]) -> Iterator[Slot]:
    number, decimals, suffix = token["number"], token["decimals"], token["suffix"] or ""
    if _THOUSANDS.fullmatch(number):
        number = number.replace(",", "")
    groups = [group for group in number.split(",") if group]
    for group in groups[:-1]:
        yield _integer(group)
    last = groups[-1]
    if suffix in ("st", "nd", "rd", "th"):
        yield _unique(_said(last, "ordinal"))
    elif suffix.endswith("s"):
        yield tuple((*reading[:-1], _plural(reading[-1])) for reading in _integer(last))
    else:
        yield _integer(last)
    if decimals and token["currency"]:
        yield from _cents(token["currency"], decimals)
        return
    if decimals:
        yield (("point",), ("dot",), ())
        yield _unique(_digitwise(decimals[1:]), _said(decimals[1:], "cardinal"))
    if token["currency"]:
        # "$64 billion" says its currency after the next word.
        yield (*((name,) for name in _CURRENCIES[token["currency"]]), ())
    elif suffix == "%":
        yield _SYMBOLS["%"]


def _cents(currency: str, decimals: str) -> Iterator[Slot]:
    yield (*((name,) for name in _CURRENCIES[currency]), ("point",), ())
    yield _unique(_said(decimals[1:], "cardinal"), _digitwise(decimals[1:]))
    yield (("cents",), ("cent",), ())


def _integer(digits: str) -> Slot:
    """Return the ways to say a run of digits: as a number, as a year, in pairs, digit by digit."""
    readings: list[Alternative] = []
    if digits == "0" or not digits.startswith("0"):
        readings += _said(digits, "cardinal")
    if len(digits) in (3, 4):
        readings += _paired(digits)
    return _unique(readings, _digitwise(digits))


def _paired(digits: str) -> list[Alternative]:
    """Read "1984" as "nineteen eighty four", "1900" as "nineteen hundred", "305" as "three oh five"."""
    high, low = digits[:-2], digits[-2:]
    if high.startswith("0"):
        return []
    head = _said(high, "cardinal")[0]
    if low == "00":
        return [(*head, "hundred")]
    if low.startswith("0"):
        return [(*head, "oh", _DIGITS[int(low)])]
    return [(*head, *_said(low, "cardinal")[0])]


def _digitwise(digits: str) -> list[Alternative]:
    said = tuple(_DIGITS[int(digit)] for digit in digits)
    return [said, tuple("oh" if word == "zero" else word for word in said)]


def _said(digits: str, form: str) -> list[Alternative]:
    """Return a number in words, without and with "and"; digit by digit where it is beyond counting."""
    if len(digits) > _MAX_CARDINAL_DIGITS:
        return _digitwise(digits)
    words = re.findall("[a-z]+", num2words(int(digits), to=form))
    return [tuple(word for word in words if word != "and"), tuple(words)]


def _plural(word: str) -> str:
    if word.endswith("y"):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith("x") else "s")


def _unique(*groups: list[Alternative]) -> Slot:
    return tuple(dict.fromkeys(alternative for group in groups for alternative in group))
