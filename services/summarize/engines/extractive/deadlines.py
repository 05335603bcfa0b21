"""Finds when something is to be done, in the words in which it was said."""

import re
from dataclasses import dataclass

_DAY = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_MONTH = (
    r"(?:january|february|march|april|june|july|august|september|october|november|december"
    r"|(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\b\.?|may(?= (?:the )?\d))"
)
_NUMBER = (
    r"(?:\d{1,3}|an?|a few|a couple of|one|two|three|four|five|six|seven|eight|nine|ten|twelve|fifteen"
    r"|twenty|thirty)"
)
_ORDINAL = (
    r"(?:\d{1,2}(?:st|nd|rd|th)|first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth"
    r"|eleventh|twelfth"
    r"|thirteenth|fourteenth|fifteenth|sixteenth|seventeenth|eighteenth|nineteenth|twentieth"
    r"|twenty-? ?\w{4,7}h|thirtieth)"
)
_PART = r"(?:morning|afternoon|evening|night|noon|lunch(?:time)?)"
_PERIOD = r"(?:week|month|quarter|year|day|sprint|weekend|semester|summer|spring|fall|winter)"
_CLOCK = (
    rf"(?:\d{{1,2}}(?::\d{{2}})? ?(?:a\.?m\b\.?|p\.?m\b\.?)|(?:\d{{1,2}}|{_NUMBER}|eleven) o'clock"
    rf"|\d{{1,2}}:\d{{2}}|noon|midnight)"
)
_DATE = (
    rf"(?:{_MONTH} (?:the )?(?:\d{{1,2}}\b(?:st|nd|rd|th)?|{_ORDINAL})(?:,? \d{{4}})?|(?:early |mid-?"
    rf"|late )?{_MONTH}"
    rf"|(?:the )?{_ORDINAL}(?: of {_MONTH})?|\d{{4}}-\d{{2}}-\d{{2}}|\d{{1,2}}/\d{{1,2}}(?:/\d{{2,4}})?)"
)
_EVENT = (
    r"(?:the|our|your|my|this|that|next)(?: \w+){0,2}? (?:meeting|call|demo|launch|release|deadline"
    r"|review|conference|standup"
    r"|stand-up|presentation|appointment|trip|holidays?|break|exam|visit)"
)
_UNIT = r"(?:minute|hour|day|week|month|year)s?"
# Names that say when by themselves, and what says when only behind a preposition.
_BARE = (
    rf"(?:the day after tomorrow|tomorrow(?: {_PART})?|today|tonight|asap|as soon as possible"
    rf"|right away|immediately"
    rf"|first thing(?: tomorrow| in the morning| on {_DAY}| {_DAY})*(?: {_PART})?|(?:this"
    rf"|next) {_DAY}(?: {_PART})?"
    rf"|(?:this|next) (?:{_PERIOD}|{_PART}|{_MONTH})|every (?:{_DAY}|day|week|month|morning)"
    rf"|later (?:today|this week)"
    rf"|in {_NUMBER} {_UNIT}(?: time)?|within (?:the )?(?:next )?{_NUMBER} {_UNIT}|within the (?:week"
    rf"|month|day|hour)"
    rf"|(?:at |by |before |until )?(?:the )?(?:end|close|beginning|start|middle) of (?:the |this "
    rf"|next )?(?:{_PERIOD}|business|{_DAY}|{_MONTH})"
    rf"|eod|eow|end of day)"
)
_AFTER_PREPOSITION = rf"(?:{_BARE}|{_DAY}(?: {_PART})?|{_DATE}|{_CLOCK}|{_PART}|then|{_EVENT}|the weekend)"
_PREPOSITION = (
    r"(?:no later than|not later than|sometime|due|by|on|before|until|till|at|around|after"
    r"|from|for|starting)(?: (?:on|by|at|before))?"
)
_ATOM = rf"(?:{_PREPOSITION} {_AFTER_PREPOSITION}|{_BARE}|{_DAY}(?: {_PART})?(?=$|[.,;!?]| at | by ))"
_WHEN = re.compile(
    rf"(?<![\w'’-])(?<!\bthe )(?<!'s ){_ATOM}(?:,? (?:{_ATOM}|at {_CLOCK}))*(?![\w’']|-\w)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Timed:
    """What is to be done, and when; `when` is None where that is not said."""

    task: str
    when: str | None


def take_when(text: str) -> Timed:
    """Take the last naming of a time out of a text."""
    matches = list(_WHEN.finditer(text))
    if not matches:
        return Timed(text, None)
    last = matches[-1]
    rest = f"{text[: last.start()].rstrip(' ,')} {text[last.end() :].lstrip(' ,')}".strip()
    return Timed(re.sub(r"\s+([.,;!?])", r"\1", rest), last[0].strip(" ,."))


def names_time(text: str) -> bool:
    """Tell whether a text says when."""
    return _WHEN.search(text) is not None


def take_leading_when(text: str) -> Timed:
    """Take the naming of a time off the beginning of a text ("Next week I will ...")."""
    match = _WHEN.match(text)
    if match is None:
        return Timed(text, None)
    return Timed(text[match.end() :].lstrip(" ,"), match[0].strip(" ,."))
