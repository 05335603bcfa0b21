"""What tests say to Whisper: sentences in the voices of eSpeak NG, and pieces of the real recordings.

Synthesized speech is understood well enough to tell languages and words apart; how well real speech is, `make bench`
measures.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import espeakng_loader
import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.int16]

SENTENCES = {
    "en": "The weather is very nice today, and we are going to the park.",
    "es": "Hoy hace muy buen tiempo y vamos a pasear por el parque con los niños.",
    "de": "Heute ist das Wetter sehr schön, und wir gehen mit den Kindern in den Park.",
    "fr": "Aujourd'hui il fait très beau et nous allons nous promener dans le parc.",
}

_SYNCHRONOUS, _TEXT_IS_UTF8, _SPEED, _SLOWER = 2, 1, 1, 130
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@cache
def _espeak() -> tuple[ctypes.CDLL, int]:
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    data = Path(espeakng_loader.get_data_path()).parent
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), 0)
    assert rate > 0
    library.espeak_SetParameter(_SPEED, _SLOWER, 0)
    return library, rate


@cache
def say(language: str, text: str = "") -> Pcm:
    """Return 16 kHz speech, of the language's own sentence where no text is given."""
    library, rate = _espeak()
    parts: list[Pcm] = []

    @_Callback
    def take(samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: int | None) -> int:
        if count > 0:
            parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(take)
    assert library.espeak_SetVoiceByName(language.encode()) == 0
    encoded = (text or SENTENCES[language]).encode()
    assert library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, _TEXT_IS_UTF8, None, None) == 0
    speech = np.concatenate(parts).astype(np.float64)
    at = np.arange(0, len(speech), rate / 16_000)
    return np.interp(at, np.arange(len(speech)), speech).astype(np.int16)


def quiet(seconds: float, level: float = 20.0) -> Pcm:
    """Return what a silent room sounds like."""
    return (np.random.default_rng(0).standard_normal(round(seconds * 16_000)) * level).astype(np.int16)


def joined(parts: Sequence[Pcm], pause_s: float = 0.5) -> Pcm:
    """Return the parts with pauses between and around them."""
    return np.concatenate([quiet(pause_s), *(piece for part in parts for piece in (part, quiet(pause_s)))])
