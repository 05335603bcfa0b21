"""Finds what somebody committed to do, or was asked to do, in one spoken English sentence.

Rules on clauses: who speaks of whom, a word of obligation, an act. Past, negated, supposed and merely asked things
are not commitments; neither are predictions, nor talk about the talk ("let's move on"). How an item is written does not
belong here.
"""

import re
from dataclasses import dataclass, replace

from services.summarize.engines.extractive import phrases
from services.summarize.engines.extractive.deadlines import names_time, take_leading_when, take_when
from services.summarize.engines.extractive.verbs import ERRANDS, NOBODY, NOT_ACTS, STEERING, STEERING_OTHERS


@dataclass(frozen=True, slots=True)
class Action:
    """Something to be done.

    `who` is "I", "we", "you" or a name as it was said, "" where nobody was named; `when` is None where it was not said.
    """

    who: str
    task: str
    when: str | None


_EDGES = " ,;:.!?-–—…"
# Pattern, whether only a known errand will do, which words only steer the talk.
_COMMITMENTS = (
    (phrases.LET_US, False, STEERING_OTHERS),
    (phrases.FIRST, False, STEERING),
    (phrases.WISH, True, STEERING),
    (phrases.YOU_MUST, True, STEERING),
    (phrases.I_CAN, True, STEERING),
)


def may_hold_action(sentence: str) -> bool:
    """Tell quickly whether a sentence has any word from which `find_actions` starts; most have none."""
    return phrases.TRIGGER.search(sentence) is not None or names_time(sentence)


def find_actions(sentence: str) -> list[Action]:
    """Return what one cleaned sentence commits somebody to, in the order in which it is said."""
    sentence = sentence.replace("’", "'")
    labelled = phrases.LABELLED.match(_strip_lead_in(sentence)[0])
    if labelled and not sentence.endswith("?"):
        who, task = labelled[1] or labelled[2], labelled[3]
        owner = phrases.TASK_OF.match(task)
        if who is None and owner:
            who, task = owner[1], owner[2]
        return _action(who or "", task, is_certain=True)
    is_question = sentence.endswith("?") and not phrases.CONFIRMS.search(sentence)
    actions: list[Action] = []
    called = None
    for clause in _clauses(phrases.CONFIRMS.sub(".", sentence)):
        clause, name = _strip_lead_in(clause)
        called = name or called
        led = take_leading_when(clause)
        found = _in_clause(led.task, called, is_question)
        actions += [replace(action, when=action.when or led.when) for action in found]
    return actions


def _clauses(sentence: str) -> list[str]:
    pieces: list[str] = []
    start = 0
    for match in phrases.CLAUSE_BREAK.finditer(sentence):
        before = sentence[start : match.start()]
        # "If you send it, I'll ...", "By the end of May, we ..." and "Tom, can you ...": one clause.
        is_time = not take_leading_when(_strip_lead_in(before)[0]).task
        if len(before.split()) < 3 or is_time or phrases.CONDITION.match(before):
            continue
        pieces.append(before)
        start = match.end()
    pieces.append(sentence[start:])
    return pieces


def _strip_lead_in(clause: str) -> tuple[str, str | None]:
    called = None
    while True:
        if match := phrases.LEAD_IN.match(clause):
            clause = clause[match.end() :]
        elif (match := phrases.CALLED.match(clause)) and called is None:
            called, clause = match[1], clause[match.end() :]
        else:
            return clause, called


def _in_clause(clause: str, called: str | None, is_question: bool) -> list[Action]:
    last = phrases.CALLED_LAST.search(clause)
    you = called or (last[1] if last else None) or "you"
    if match := phrases.REQUEST.search(clause):
        if not _is_meant(clause, match):
            return []
        task = re.sub(r"^mind ", "", match[2])
        return _action(you if match[1].lower() == "you" else match[1], task, steering=STEERING_OTHERS)
    if match := phrases.CAN_WE.match(clause):
        return _action("we", match[2], needs_errand=True, steering=STEERING_OTHERS)
    if is_question:
        return []
    if match := phrases.REMIND.match(clause):
        is_ours = clause.lower().startswith(("make sure we", "make sure that we"))
        return _action("we" if is_ours else you, match[1], is_certain=True)
    if (match := phrases.PLEASE.search(clause)) and not phrases.STORY.search(clause):
        return _action(you, match[1], steering=STEERING_OTHERS)
    if (match := phrases.IMPERATIVE.match(clause)) and match[1].split()[0].lower() in ERRANDS:
        return _action(you, match[1], steering=STEERING_OTHERS)
    if match := phrases.WHAT_IS.search(clause):
        return _action(match[1], match[2])
    for pattern, needs_errand, steering in _COMMITMENTS:
        if match := pattern.search(clause):
            if not _is_meant(clause, match):
                return []
            who = {"let's": "we", "let us": "we", "you": you}.get(match[1].lower(), match[1])
            return _action(who, match[2], needs_errand=needs_errand, steering=steering)
    if match := phrases.LET_ME.search(clause):
        return _action("I", match[1])
    if match := phrases.IN_CHARGE.search(clause):
        return _action(match[1], match[2], is_certain=True)
    if match := phrases.NAMED.search(clause):
        return _of_another(clause, match)
    if (match := phrases.ORDER.match(clause)) and clause.split()[0].lower() in ERRANDS and names_time(clause):
        return _action(you, match[1], steering=STEERING_OTHERS)
    return []


def _of_another(clause: str, match: re.Match[str]) -> list[Action]:
    who = match[1]
    head = who.lower().split()
    if head[-1] in NOBODY or head[0] in NOBODY - {"the"} or not _is_meant(clause, match):
        return []
    # "Companies will send ..." is a forecast, "Chris will send ..." is not.
    is_plural = len(head) == 1 and head[0].endswith("s") and not head[0].endswith(("is", "as", "us", "ss"))
    return _action(who, match[2], needs_errand=True, needs_time=is_plural, steering=frozenset())


def _is_meant(clause: str, match: re.Match[str]) -> bool:
    before = clause[: match.start()].rpartition(",")[2]
    if phrases.NOT_MEANT.search(before):
        return False
    return not phrases.STORY.search(clause[: match.start()]) or names_time(clause)


def _action(
    who: str,
    text: str,
    *,
    is_certain: bool = False,
    needs_errand: bool = False,
    needs_time: bool = False,
    steering: frozenset[str] = STEERING,
) -> list[Action]:
    """Return the action, or nothing where what is to be done is no act.

    `is_certain`: it is, whatever it is; `needs_errand`: only a known errand, or what has a time; `needs_time`: only
    what has one.
    """
    task = _trim(phrases.REASON.sub("", text))
    while match := phrases.BEFORE_ACT.match(task):
        task = task[match.end() :]
    if re.match(r"be [a-z]+ing\b", task):
        task = task[3:]
    timed = take_when(task)
    task = _trim(timed.task)
    if not task or (needs_time and timed.when is None):
        return []
    later = timed.when is not None and timed.when.lower() not in ("today", "then", "tonight")
    if is_certain or _is_act(task, later=later, needs_errand=needs_errand, steering=steering):
        return [Action(who, task, timed.when)]
    return []


def _is_act(task: str, *, later: bool, needs_errand: bool, steering: frozenset[str]) -> bool:
    verb, _, rest = task.lower().partition(" ")
    verb = verb.rstrip(",.;")
    if verb == "be" or verb in NOT_ACTS:
        return False
    if verb == "have":
        return later or rest.endswith(("ready", "done", "finished"))
    if verb == "see":
        return rest.startswith(("if ", "whether ", "to "))
    if later:
        return not needs_errand or not verb.endswith("ed")
    if phrases.TELLS_YOU.match(task) or (verb in steering and not phrases.DONE_ELSEWHERE.match(task)):
        return False
    return verb in ERRANDS or bool(rest and not needs_errand)


def _trim(task: str) -> str:
    return phrases.TRAILING.sub("", task.strip(_EDGES)).strip(_EDGES)
