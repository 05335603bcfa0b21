"""Finds what somebody committed to do, or was asked to do, in one spoken English sentence.

Rules on clauses: who speaks of whom, a word of obligation, an act. Past, negated, supposed and merely asked things are
not commitments; neither are predictions, nor talk about the talk ("let's move on"). The output's form is not settled here.
"""

import re
from dataclasses import dataclass

from services.summarize.engines.extractive.deadlines import names_time, take_when
from services.summarize.engines.extractive.verbs import ERRANDS, NOBODY, NOT_ACTS, STEERING, STEERING_OTHERS


@dataclass(frozen=True, slots=True)
class Action:
    """Something to be done. `who` is "I", "we", "you" or a name as it was said; `when` is None where it was not said."""

    who: str
    task: str
    when: str | None


_FLAGS = re.IGNORECASE
_SOON = r"(?:also |just |then |still |really |definitely |probably |actually |now |certainly |gladly |all |both |maybe |at least )"
_OBLIGED = (
    r"(?:'ll|'m going to|'re going to|'m gonna|'re gonna|'ve got to|'d better"
    rf"| {_SOON}*(?:will|shall|must|should|am going to|are going to|gonna|gotta|have got to|got to|need to|have to|ought to"
    r"|had better|promise to|plan to|agreed to|promised to|intend to))"
)
_FIRST = re.compile(rf"\b(I|we){_OBLIGED} (.+)", _FLAGS)
_WHAT_IS = re.compile(rf"\bwhat (I|we){_OBLIGED} do is (?:to )?(.+)", _FLAGS)
_I_CAN = re.compile(rf"\b(I) can {_SOON}*(.+)", _FLAGS)
_LET_US = re.compile(r"\b(let's|let us) (.+)", _FLAGS)
_LET_ME = re.compile(r"\blet me ((?:check|follow up|get back|look into|find out|double[- ]check|send|ask|call)\b.+)", _FLAGS)
_REQUEST = re.compile(
    r"\b(?:can|could|will|would) (you|somebody|someone|anybody|anyone|(?:one|some|any) of you)(?: guys| all)? (.+)", _FLAGS
)
_WISH = re.compile(r"\bI(?: would like|'d like| want| need|'d love|'ll need) (?!to\b)(?:for )?(\w+) to (.+)", _FLAGS)
_YOU_MUST = re.compile(rf"\b(you){_OBLIGED} (.+)", _FLAGS)
_PLEASE = re.compile(r"(?<!yes )(?<!no )\bplease,? (?:do )?(\w.+)", _FLAGS)
_ORDER = re.compile(
    r"^((?:\w+|e-mail)(?: (?:up|out|in|back|over|down|off))?"
    r" (?:me|us|him|her|them|it|the|an?|your|my|our|his|their|this|that|these|those|all|both)\b.*)",
    _FLAGS,
)
_IMPERATIVE = re.compile(r"^(\w+(?:-\w+)? .+?)[ ,]+please\W*$", _FLAGS)
_REMIND = re.compile(
    r"^(?:don't forget|do not forget|remember|make sure|be sure|try not to forget)"
    r" (?:(?:that )?(?:you|we|to)\b(?: guys)?(?: all)?) ?(.+)",
    _FLAGS,
)
_NAMED = re.compile(
    r"\b((?:the |our |my |your )?[^\W\d_][\w'’-]*?(?: (?:team|department|group|office|and [A-Z]\w+|[A-Z][\w-]*))?)"
    r"(?:'ll|'s going to|'s gonna|'s supposed to"
    rf"| {_SOON}*(?:will|shall|is going to|are going to|is gonna|needs to|need to|has to|have to|must|should"
    r"|is supposed to|agreed to|promised to|volunteered to|offered to)) (.+)",
    _FLAGS,
)
_IN_CHARGE = re.compile(
    r"\b([A-Z][\w-]*(?: [A-Z][\w-]*)?|I|we|you|he|she|they)(?: is| are| am|'s|'re|'m| will be) (?:responsible for|in charge of) (.+)"
)
_LABELLED = re.compile(
    r"^(?:the |one |another |my |your |our |an )?(?:action items?|to-?dos?|task|next steps?|action point|action)"
    r"(?: (?:for|on) (\w+))?(?: ?[:–—-] | is (?:for (\w+) )?(?:to|that) |,? )(.+)",
    _FLAGS,
)
_TASK_OF = re.compile(r"^(?:for )?([A-Z]\w*|we|you|I)(?: (?:to|will|should|needs? to|has to|must)\b|:|,) ?(.+)")

_TRIGGER = re.compile(
    r"['’]ll|\b(?:will|shall|must|should|going to|gonna|gotta|to|let|let['’]s|please|could|can|would|forget|sure|charge"
    r"|responsible|better|action|to-?dos?|task|next steps?)\b",
    _FLAGS,
)

# Between the subject and the act.
_BEFORE_ACT = re.compile(
    r"^(?:also|just|then|still|really|definitely|probably|actually|now|certainly|please|maybe|possibly|quickly|all|both|kindly"
    r"|first|at least|go ahead and|try to|try and|be able to|need to|have to|remember to|make sure to|be sure to|plan to|want to"
    r"|personally|immediately|together|finally|not forget to|never forget to|make sure (?:that )?(?:we|you|I)|help to)\s+",
    _FLAGS,
)
# What may not stand right before the subject: supposing, asking, denying, telling a story.
_NOT_MEANT = re.compile(
    r"\b(?:if|whether|unless|what|how|why|where|who|whom|which|that's|than|wish|wished|thought|wonder|wondering|wondered|don't think"
    r"|doesn't mean|didn't think|not sure|don't know|no idea|imagine|suppose|supposing|when|whenever|once|because|as if|like"
    r"|do|does|did|should|shall|am|had|used|not|never|hoped|feared|knew|pretend|everything|anything|all|until|before)\W*$"
    r"|\b(?:don't think|doubt|not sure|don't believe|didn't say|nobody said|not saying|hope|hoping|maybe|perhaps|wish|as if)\b",
    _FLAGS,
)
_STORY = re.compile(r"\b(?:said|says|told|cried|asked|replied|thought|answered|whispered|shouted|exclaimed)\b", _FLAGS)
_CONFIRMS = re.compile(r",? (?:right|okay|ok|yeah|alright|all right|correct|deal|does that work|is that okay|is that ok)\?$", _FLAGS)
_CLAUSE_BREAK = re.compile(
    r"(?:[,;:—–]\s*|\s)(?:and then|and so|and also|and|but|so|then|while|okay|ok)?,?\s+(?=(?:"
    r"(?:I|we|you|he|she|they|someone|somebody|everyone|the \w+|\w+)(?:'ll| will|'m going to|'re going to| is going to| are going to"
    r"| am going to| need to| needs to| have to| has to| must| should| gotta)\s"
    r"|can you|could you|would you|will you|please|let's|let us|don't forget|remember to|make sure|action item))",
    _FLAGS,
)
_LEAD_IN = re.compile(
    r"^(?:and|so|okay|ok|yeah|yes|yep|sure|well|but|then|also|now|right|alright|all right|great|thanks|thank you|perfect|good|fine"
    r"|oh|hey|hi|hello|just|no problem|of course|absolutely|anyway|actually|finally|first|second|one more thing|i think|i guess|i mean)\b[,.:;]?\s+",
    _FLAGS,
)
_CALLED = re.compile(r"^([A-Z][\w-]+(?: [A-Z][\w-]+)?), ")
_CALLED_LAST = re.compile(r", ([A-Z][\w-]+)[?.!]*$")
_TRAILING = re.compile(
    r"(?:[,\s]+(?:okay|ok|right|yeah|please|thanks|thank you|alright|all right|then|too|though|as well|for me|if you can"
    r"|if possible|(?:they|he|she|you|we) said|i think|i guess|that'd be great|that would be great))+\W*$",
    _FLAGS,
)
_REASON = re.compile(r",? (?:because|otherwise|'cause|which means|which is why)\b.*$", _FLAGS)
# Talk to the listener, and steering words in phrases that name work.
_TELLS_YOU = re.compile(r"(?:tell|show|give|ask|explain|describe|say|read)(?: to)? (?:you|me|us)\b|talk about\b", _FLAGS)
_DONE_ELSEWHERE = re.compile(
    r"(?:look (?:into|after|up|for)|go (?:over|through|get)|turn (?:in|off|on)|come up with|stop by|hold (?:an?|the|our) |cover for"
    r"|(?:move|use|share|show|introduce|give|start|stop|tell|take|get|ask|try|join) (?!over|on\b|with\b|from|by\b|to\b|about|me\b|us\b|you\b|it\b))",
    _FLAGS,
)
_EDGES = " ,;:.!?-–—…"


def may_hold_action(sentence: str) -> bool:
    """Tell quickly whether a sentence has any word from which `find_actions` starts; most have none."""
    return _TRIGGER.search(sentence) is not None or names_time(sentence)


def find_actions(sentence: str) -> list[Action]:
    """Return what one cleaned sentence commits somebody to, in the order in which it is said."""
    sentence = sentence.replace("’", "'")
    labelled = _LABELLED.match(_strip_lead_in(sentence)[0])
    if labelled and not sentence.endswith("?"):
        who, task = labelled[1] or labelled[2], labelled[3]
        owner = _TASK_OF.match(task)
        if who is None and owner:
            who, task = owner[1], owner[2]
        return _action(who or "", task, is_certain=True)
    is_question = sentence.endswith("?") and not _CONFIRMS.search(sentence)
    actions: list[Action] = []
    called = None
    for clause in _clauses(_CONFIRMS.sub(".", sentence)):
        clause, name = _strip_lead_in(clause)
        called = name or called
        actions += _in_clause(clause, called, is_question)
    return actions


def _clauses(sentence: str) -> list[str]:
    pieces: list[str] = []
    start = 0
    for match in _CLAUSE_BREAK.finditer(sentence):
        before = sentence[start : match.start()]
        # "If you send it, I'll ..." and "Tom, can you ...": the first part belongs to the second.
        if len(before.split()) < 3 or re.match(r"(?:if|when|once|as soon as|after|before)\b", before, _FLAGS):
            continue
        pieces.append(before)
        start = match.end()
    pieces.append(sentence[start:])
    return pieces


def _strip_lead_in(clause: str) -> tuple[str, str | None]:
    called = None
    while True:
        if match := _LEAD_IN.match(clause):
            clause = clause[match.end() :]
        elif (match := _CALLED.match(clause)) and called is None:
            called, clause = match[1], clause[match.end() :]
        else:
            return clause, called


def _in_clause(clause: str, called: str | None, is_question: bool) -> list[Action]:
    last = _CALLED_LAST.search(clause)
    you = called or (last[1] if last else None) or "you"
    if match := _REQUEST.search(clause):
        if not _is_meant(clause, match):
            return []
        task = re.sub(r"^mind ", "", match[2])
        return _action(you if match[1].lower() == "you" else match[1], task, steering=STEERING_OTHERS)
    if is_question:
        return []
    if match := _REMIND.match(clause):
        return _action("we" if re.match(r"make sure (?:that )?we", clause, _FLAGS) else you, match[1], is_certain=True)
    if (match := _PLEASE.search(clause)) and not _STORY.search(clause):
        return _action(you, match[1], steering=STEERING_OTHERS)
    if (match := _IMPERATIVE.match(clause)) and match[1].split()[0].lower() in ERRANDS:
        return _action(you, match[1], steering=STEERING_OTHERS)
    if match := _WHAT_IS.search(clause):
        return _action(match[1], match[2])
    for pattern, needs_errand in ((_LET_US, False), (_FIRST, False), (_WISH, True), (_YOU_MUST, True), (_I_CAN, True)):
        if match := pattern.search(clause):
            if not _is_meant(clause, match):
                return []
            who = {"let's": "we", "let us": "we", "you": you}.get(match[1].lower(), match[1])
            return _action(who, match[2], needs_errand=needs_errand, steering=STEERING_OTHERS if pattern is _LET_US else STEERING)
    if match := _LET_ME.search(clause):
        return _action("I", match[1])
    if match := _IN_CHARGE.search(clause):
        return _action(match[1], match[2], is_certain=True)
    if match := _NAMED.search(clause):
        return _of_another(clause, match)
    if (match := _ORDER.match(clause)) and clause.split()[0].lower() in ERRANDS and names_time(clause):
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
    if _NOT_MEANT.search(before):
        return False
    return not _STORY.search(clause[: match.start()]) or names_time(clause)


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

    `is_certain`: whatever it is; `needs_errand`: only a known errand, or what has a time; `needs_time`: only what has one.
    """
    task = _trim(_REASON.sub("", text))
    while match := _BEFORE_ACT.match(task):
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
    if _TELLS_YOU.match(task) or (verb in steering and not _DONE_ELSEWHERE.match(task)):
        return False
    return verb in ERRANDS or bool(rest and not needs_errand)


def _trim(task: str) -> str:
    return _TRAILING.sub("", task.strip(_EDGES)).strip(_EDGES)
