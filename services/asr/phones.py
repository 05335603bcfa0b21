"""Letters to sounds: a guess at the pronunciation of English words that no dictionary has.

Good enough to find where a word begins and ends, not to say it aloud. Phones are ARPAbet without stress, as in CMUdict.
"""

# Longest spelling first; "" where letters are silent. Rules after the common patterns of English spelling.
_SPELLINGS = {
    "tious": "SH AH S", "cious": "SH AH S", "ought": "AO T", "aught": "AO T", "eigh": "EY", "ough": "AO",
    "tion": "SH AH N", "sion": "ZH AH N", "cian": "SH AH N", "ture": "CH ER", "tial": "SH AH L", "cial": "SH AH L",
    "igh": "AY", "tch": "CH", "dge": "JH", "sch": "SH", "eau": "OW", "oor": "AO R", "ear": "IH R", "air": "EH R",
    "are": "EH R", "ore": "AO R", "ire": "AY ER", "ure": "Y UH R", "que": "K", "gue": "G", "ssi": "SH", "eer": "IH R",
    "ai": "EY", "ay": "EY", "au": "AO", "aw": "AO", "al": "AE L", "ar": "AA R", "ch": "CH", "ck": "K", "ea": "IY",
    "ee": "IY", "ei": "EY", "er": "ER", "eu": "Y UW", "ew": "UW", "ey": "IY", "gh": "G", "gn": "N", "ie": "IY",
    "ir": "ER", "kn": "N", "mb": "M", "ng": "NG", "oa": "OW", "oe": "OW", "oi": "OY", "oo": "UW", "or": "AO R",
    "ou": "AW", "ow": "OW", "oy": "OY", "ph": "F", "ps": "P S", "qu": "K W", "rh": "R", "sh": "SH", "th": "TH",
    "ue": "UW", "ui": "UW", "ur": "ER", "wh": "W", "wr": "R", "ce": "S EH", "ci": "S IH", "cy": "S IY",
    "ge": "JH EH", "gi": "JH IH",
    "a": "AE", "b": "B", "c": "K", "d": "D", "e": "EH", "f": "F", "g": "G", "h": "HH", "i": "IH", "j": "JH",
    "k": "K", "l": "L", "m": "M", "n": "N", "o": "AA", "p": "P", "q": "K", "r": "R", "s": "S", "t": "T", "u": "AH",
    "v": "V", "w": "W", "x": "K S", "y": "IY", "z": "Z",
}  # fmt: skip
_LONG = {"a": "EY", "e": "IY", "i": "AY", "o": "OW", "u": "UW", "y": "AY"}
_LONGEST = max(map(len, _SPELLINGS))


def guess(word: str) -> str:
    """Return the likely phones of a word of the letters a to z and apostrophes, separated by spaces."""
    letters = word.replace("'", "")
    phones: list[str] = []
    position = 0
    while position < len(letters):
        rest = letters[position:]
        spelling, sound = _match(rest, position)
        phones += sound.split()
        position += len(spelling)
        # A doubled consonant is said once.
        if len(spelling) == 1 and rest[1:2] == spelling and spelling not in "aeiou":
            position += 1
    return " ".join(phones) or "AH"


def _match(rest: str, position: int) -> tuple[str, str]:
    """Return the spelling that `rest`, the word from `position` on, begins with, and its sound."""
    if rest == "e" and position > 0:
        return rest, ""
    if rest in ("es", "ed") and position > 1:
        return rest, "IH Z" if rest == "es" else "D"
    # Vowel, consonant, final e: the vowel is long.
    if rest[0] in _LONG and len(rest) in (3, 4) and rest[1] not in "aeiouwyxr" and rest[2:] in ("e", "es", "ed"):
        return rest[0], _LONG[rest[0]]
    if position == 0 and rest.startswith("y"):
        return "y", "Y"
    for length in range(min(_LONGEST, len(rest)), 0, -1):
        if sound := _SPELLINGS.get(rest[:length]):
            return rest[:length], sound
    return rest[0], ""
