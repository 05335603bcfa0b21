"""What callers call a language: ISO 639 codes of any length, old and new, tags with a region, and English names.

Codes of one language in a group that Whisper takes for one (Bokmål, Mandarin, Western Farsi) are the group's.
Source: ISO 639-1, -2 and -3; the names and aliases of Whisper's tokenizer.
"""

import re

from services.common.languages import LANGUAGES

CANTONESE = "yue"
"""Which the largest Whisper models tell from Chinese, and none here."""

_OTHERS = {
    "af": "afr", "am": "amh", "ar": "ara arb", "as": "asm", "az": "aze azj", "ba": "bak", "be": "bel", "bg": "bul",
    "bn": "ben bangla", "bo": "bod tib", "br": "bre", "bs": "bos", "ca": "cat valencian", "cs": "ces cze",
    "cy": "cym wel", "da": "dan", "de": "deu ger", "el": "ell gre", "en": "eng", "es": "spa castilian",
    "et": "est ekk", "eu": "eus baq", "fa": "fas per pes prs farsi dari", "fi": "fin", "fo": "fao", "fr": "fra fre",
    "gl": "glg", "gu": "guj", "ha": "hau", "he": "heb iw", "hi": "hin", "hr": "hrv", "ht": "hat haitian",
    "hu": "hun", "hy": "hye arm", "id": "ind in", "is": "isl ice", "it": "ita", "ja": "jpn", "jw": "jav jv",
    "ka": "kat geo", "kk": "kaz", "km": "khm", "kn": "kan", "ko": "kor", "la": "lat", "lb": "ltz letzeburgesch",
    "ln": "lin", "lo": "lao", "lt": "lit", "lv": "lav lvs", "mg": "mlg plt", "mi": "mri mao", "mk": "mkd mac",
    "ml": "mal", "mn": "mon khk", "mr": "mar", "ms": "msa may zsm", "mt": "mlt", "my": "mya bur burmese",
    "ne": "nep npi", "nl": "nld dut flemish", "nn": "nno", "no": "nor nob nb bokmål", "oc": "oci",
    "pa": "pan panjabi", "pl": "pol", "ps": "pus pbt pushto", "pt": "por", "ro": "ron rum mo moldavian moldovan",
    "ru": "rus", "sa": "san", "sd": "snd", "si": "sin sinhalese", "sk": "slk slo", "sl": "slv slovene", "sn": "sna",
    "so": "som", "sq": "sqi alb als", "sr": "srp", "su": "sun", "sv": "swe", "sw": "swa swh", "ta": "tam",
    "te": "tel", "tg": "tgk", "th": "tha", "tk": "tuk", "tl": "tgl fil filipino", "tr": "tur", "tt": "tat",
    "uk": "ukr", "ur": "urd", "uz": "uzb uzn", "vi": "vie", "yi": "yid ydd ji", "yo": "yor",
    "zh": "zho chi cmn mandarin", CANTONESE: "yue cantonese",
}  # fmt: skip
"""Other names of each code."""
_CODES = {
    **{code: code for code in LANGUAGES},
    **{name: code for code, name in LANGUAGES.items()},
    **{name: code for code, names in _OTHERS.items() for name in names.split()},
    "norwegian bokmål": "no",
    "norwegian nynorsk": "nn",
}


def language_code(text: str) -> str | None:
    """Return the code of a language (CANTONESE, or one of LANGUAGES), None where nothing is called so.

    What follows the first hyphen, underscore or bracket is a region or a script, and counts only where it is Cantonese.
    """
    whole = text.lower().strip()
    parts = [part.strip(" )") for part in re.split(r"[-_(]", whole)]
    if any(_CODES.get(part) == CANTONESE for part in parts):
        return CANTONESE
    return _CODES.get(whole) or _CODES.get(parts[0])
