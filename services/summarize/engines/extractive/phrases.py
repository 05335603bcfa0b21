"""The phrases with which people commit themselves or others, and those that take a commitment back; English.

Patterns only; what is made of a match belongs in `actions`.
"""

import re

_ANY_CASE = re.IGNORECASE
_SOON = (
    r"(?:also |just |then |still |really |definitely |probably |actually |now |certainly |gladly "
    r"|all |both |maybe |at least )"
)
_OBLIGED = (
    r"(?:'ll|'m going to|'re going to|'m gonna|'re gonna|'ve got to|'d better"
    rf"| {_SOON}*(?:will|shall|must|should|am going to|are going to|gonna|gotta|have got to|got to"
    rf"|need to|have to|ought to"
    r"|had better|promise to|plan to|agreed to|promised to|intend to))"
)
FIRST = re.compile(rf"\b(I|we){_OBLIGED} (.+)", _ANY_CASE)
WHAT_IS = re.compile(rf"\bwhat (I|we){_OBLIGED} do is (?:to )?(.+)", _ANY_CASE)
I_CAN = re.compile(rf"\b(I) can {_SOON}*(.+)", _ANY_CASE)
LET_US = re.compile(r"\b(let's|let us) (.+)", _ANY_CASE)
LET_ME = re.compile(
    r"\blet me ((?:check|follow up|get back|look into|find out|double[- ]check|send|ask|call)\b.+)", _ANY_CASE
)
REQUEST = re.compile(
    r"\b(?:can|could|will|would) (you|somebody|someone|anybody|anyone|(?:one|some|any) of you)(?: guys"
    r"| all)? (.+)",
    _ANY_CASE,
)
CAN_WE = re.compile(r"^(?:can|could|shall) (we) (.+)", _ANY_CASE)
WISH = re.compile(
    r"\b(?:I|we)(?: would like|'d like| want| need|'d love|'ll need) (?!to\b)(?:for )?(\w+) to (.+)",
    _ANY_CASE,
)
YOU_MUST = re.compile(rf"\b(you){_OBLIGED} (.+)", _ANY_CASE)
PLEASE = re.compile(r"(?<!yes )(?<!no )\bplease,? (?:do )?(\w.+)", _ANY_CASE)
ORDER = re.compile(
    r"^((?:\w+|e-mail)(?: (?:up|out|in|back|over|down|off))?"
    r" (?:me|us|him|her|them|it|the|an?|your|my|our|his|their|this|that|these|those|all|both)\b.*)",
    _ANY_CASE,
)
IMPERATIVE = re.compile(r"^(\w+(?:-\w+)? .+?)[ ,]+please\W*$", _ANY_CASE)
REMIND = re.compile(
    r"^(?:don't forget|do not forget|remember|make sure|be sure|try not to forget)"
    r" (?:(?:that )?(?:you|we|to)\b(?: guys)?(?: all)?) ?(.+)",
    _ANY_CASE,
)
NAMED = re.compile(
    r"\b((?:the |our |my |your )?[^\W\d_][\w'’-]*?(?: (?:team|department|group|office"
    r"|and (?-i:[A-Z])\w+|(?-i:[A-Z])[\w-]*))?)"
    r"(?:'ll|'s going to|'s gonna|'s supposed to"
    rf"| {_SOON}*(?:will|shall|is going to|are going to|is gonna|needs to|need to|has to|have to|must|should"
    r"|is supposed to|agreed to|promised to|volunteered to|offered to)) (.+)",
    _ANY_CASE,
)
IN_CHARGE = re.compile(
    r"\b([A-Z][\w-]*(?: [A-Z][\w-]*)?|I|we|you|he|she|they)(?: is| are| am|'s|'re|'m"
    r"| will be) (?:responsible for|in charge of) (.+)"
)
LABELLED = re.compile(
    r"^(?:the |one |another |my |your |our |an )?(?:action items?|to-?dos?|task|next steps?"
    r"|action point|action)"
    r"(?: (?:for|on) (\w+))?(?: ?[:–—-] | is (?:for (\w+) )?(?:to|that) |,? )(.+)",
    _ANY_CASE,
)
TASK_OF = re.compile(r"^(?:for )?([A-Z]\w*|we|you|I)(?: (?:to|will|should|needs? to|has to|must)\b|:|,) ?(.+)")

TRIGGER = re.compile(
    r"['’]ll|\b(?:will|shall|must|should|going to|gonna|gotta|to|let|let['’]s|please|could|can|would"
    r"|forget|sure|charge"
    r"|responsible|better|action|to-?dos?|task|next steps?)\b",
    _ANY_CASE,
)

# Between the subject and the act.
BEFORE_ACT = re.compile(
    r"^(?:also|just|then|still|really|definitely|probably|actually|now|certainly|please|maybe|possibly"
    r"|quickly|all|both|kindly"
    r"|first|at least|go ahead and|try to|try and|be able to|need to|have to|remember to|make sure to"
    r"|be sure to|plan to|want to"
    r"|personally|immediately|together|finally|not forget to|never forget to|make sure (?:that )?(?:we"
    r"|you|I)|help to)\s+",
    _ANY_CASE,
)
# What may not stand right before the subject: supposing, asking, denying, telling a story.
NOT_MEANT = re.compile(
    r"\b(?:if|whether|unless|what|how|why|where|who|whom|which|that's|than|wish|wished|thought|wonder"
    r"|wondering|wondered|don't think"
    r"|doesn't mean|didn't think|not sure|don't know|no idea|imagine|suppose|supposing|when|whenever"
    r"|once|because|as if|like"
    r"|do|does|did|should|shall|am|had|used|not|never|hoped|feared|knew|pretend|everything|anything|all"
    r"|until|before)\W*$"
    r"|\b(?:don't think|doubt|not sure|don't believe|didn't say|nobody said|not saying|hope|hoping"
    r"|maybe|perhaps|wish|as if)\b",
    _ANY_CASE,
)
STORY = re.compile(
    r"\b(?:said|says|told|cried|asked|replied|thought|answered|whispered|shouted"
    r"|exclaimed)\b",
    _ANY_CASE,
)
CONFIRMS = re.compile(
    r",? (?:right|okay|ok|yeah|alright|all right|correct|deal|does that work|is that okay"
    r"|is that ok)\?$",
    _ANY_CASE,
)
CLAUSE_BREAK = re.compile(
    r"(?:[,;:—–]\s*|\s)(?:and then|and so|and also|and|but|so|then|while|okay|ok)?,?\s+(?=(?:"
    r"(?:I|we|you|he|she|they|someone|somebody|everyone|the \w+|\w+)(?:'ll| will|'m going to"
    r"|'re going to| is going to| are going to"
    r"| am going to| need to| needs to| have to| has to| must| should| gotta)\s"
    r"|can you|could you|would you|will you|please|let's|let us|don't forget|remember to|make sure"
    r"|action item))",
    _ANY_CASE,
)
# Beginnings whose clause goes on behind the next comma or "and".
CONDITION = re.compile(r"(?:if|when|once|as soon as|after|before)\b|.*\b(?:hope|hoping|wish|imagine)\b", _ANY_CASE)
LEAD_IN = re.compile(
    r"^(?:and|so|okay|ok|yeah|yes|yep|sure|well|but|then|also|now|right|alright|all right|great|thanks"
    r"|thank you|perfect|good|fine"
    r"|oh|hey|hi|hello|just|no problem|of course|absolutely|anyway|actually|finally|first|second"
    r"|one more thing|i think|i guess|i mean)\b[,.:;]?\s+",
    _ANY_CASE,
)
CALLED = re.compile(r"^([A-Z][\w-]+(?: [A-Z][\w-]+)?), ")
CALLED_LAST = re.compile(r", ([A-Z][\w-]+)[?.!]*$")
TRAILING = re.compile(
    r"(?:[,\s]+(?:okay|ok|right|yeah|please|thanks|thank you|alright|all right|then|too|though|as well"
    r"|for me|if you can"
    r"|if possible|(?:they|he|she|you|we) said|i think|i guess|that'd be great|that would be great))+\W*$",
    _ANY_CASE,
)
REASON = re.compile(r",? (?:because|otherwise|'cause|which means|which is why)\b.*$", _ANY_CASE)
# Talk to the listener, and steering words in phrases that name work.
TELLS_YOU = re.compile(
    r"(?:tell|show|give|ask|explain|describe|say|read)(?: to)? (?:you|me|us)\b|talk about\b", _ANY_CASE
)
DONE_ELSEWHERE = re.compile(
    r"(?:look (?:into|after|up|for)|go (?:over|through|get)|turn (?:in|off|on)|come up with|stop by"
    r"|hold (?:an?|the|our) |cover for"
    r"|(?:move|use|share|show|introduce|give|start|stop|tell|take|get|ask|try|join) (?!over|on\b|with\b"
    r"|from|by\b|to\b|about|me\b|us\b|you\b|it\b))",
    _ANY_CASE,
)
