"""The words of a text that carry meaning, and whether the text looks like English."""

import re
import unicodedata

from services.summarize.engines.extractive.wordlist import word_set

_STOP_WORDS = word_set(
    """
    a about actually after again all also am an and another any are as at be because been before being both but
    by can can't could did didn't do does doesn't doing don't done down each even every few for from get gets
    getting go goes going gonna got had has have haven't having he he's her here hers him his how i i'd i'll i'm
    i've if in into is isn't it it's its itself just kind know let let's like little lot make many may maybe me
    mean might more most much must my no not now of off oh ok okay on once one only or other our out over own
    put quite really right said same say see she she's should so some something sort still such sure take than
    thank thanks that that's the their them then there there's these they they're thing things think this those
    though through to too two under until up us very want was wasn't way we we'll we're we've well went were
    what what's when where which while who why will with would yeah yep yes yet you you'll you're you've your um
    umm uh uhh uhm er erm hm hmm mm mhm ah
    """
)
# Function words that English has almost alone (not "in", "die", "me", "was").
_ENGLISH = word_set(
    """
    the and of to is that it you we he she they have had were with this are be been not from what which would
    could should will i'm it's don't i'll there their been because about your our my his how who when where can
    do did just so but
    """
)
_EDGES = "".join(map(chr, range(0x21, 0x30))) + ":;<=>?@[\\]^_`{|}~…。！？؟،؛।॥།։、，；：「」『』（）《》“”‘’«»¡¿–—·・"
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_MIN_WORDS_TO_JUDGE = 8
_LEAST_ENGLISH_SHARE = 0.12
_SAMPLE_CHARS = 200_000


def content_words(sentence: str) -> list[str]:
    """Return the words that carry meaning, folded; pairs of characters in scripts that put no spaces between words."""
    found: list[str] = []
    for raw in sentence.lower().replace("’", "'").split():
        word = raw.strip(_EDGES)
        if not word or word in _STOP_WORDS:
            continue
        if _UNSPACED.search(word):
            found += [word[at : at + 2] for at in range(max(1, len(word) - 1))]
        else:
            found.append(_stem(word))
    return found


def looks_english(text: str) -> bool:
    """Tell whether a text is likely English; too short a text in Latin letters is given the benefit of the doubt."""
    sample = text[:_SAMPLE_CHARS].lower().replace("’", "'")
    letters = [char for char in sample if char.isalpha()]
    latin = sum(char.isascii() or unicodedata.name(char, "").startswith("LATIN") for char in letters)
    if latin * 2 < len(letters):
        return False
    words = [word.strip(_EDGES) for word in sample.split()]
    if len(words) < _MIN_WORDS_TO_JUDGE:
        return True
    return sum(word in _ENGLISH for word in words) >= _LEAST_ENGLISH_SHARE * len(words)


def _stem(word: str) -> str:
    word = word.removesuffix("'s")
    if len(word) > 4 and word.isascii():
        if word.endswith("ies"):
            return word[:-3] + "y"
        if word.endswith("s") and not word.endswith(("ss", "us", "is")):
            return word[:-1]
    return word
