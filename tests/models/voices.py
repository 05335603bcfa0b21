"""Spoken digits, one to a clip: synthesized by espeak-ng in many voices, and those of the Free Spoken Digit Dataset.

What is done with clips is `mixing`'s business.
"""

import io
import subprocess
import wave
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 16_000

WORDS = {
    "en": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "de": ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"),
    "es": ("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve"),
}
_ACCENTS = {
    "en": ("en-us", "en-gb", "en-gb-scotland", "en-029", "en-gb-x-rp"),
    "de": ("de",),
    "es": ("es", "es-419"),
}
_VARIANTS = (
    *(f"m{number}" for number in range(1, 9)),
    *(f"f{number}" for number in range(1, 6)),
    *("klatt", "klatt2", "klatt3", "croak", "Alex", "Andrea", "anika", "Annie", "belinda", "benjamin", "david"),
    *("edward", "ed", "iven", "john", "kaukovalta", "Lee", "linda", "marcelo", "Michael", "Mr", "norbert", "pablo"),
    *("paul", "quincy", "rob", "robert", "steph", "travis"),
)
# Never trained with: the figures of the model card are measured on them, and tests speak with some of them.
HELD_OUT_VARIANTS = ("m4", "f3", "Andrea", "edward")
HELD_OUT_SPEAKER = "speaker5"
# Quieter than this beside the loudest is the silence around the word.
_SILENCE = 0.02

Audio = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Clip:
    """One digit said in one voice: 16 kHz mono, without the silence around it, the loudest sample at 1."""

    language: str
    digit: int
    voice: str
    audio: Audio


def synthesize(*, held_out: bool, settings: int, seed: int) -> list[Clip]:
    """Say every digit in every voice, each at `settings` random speeds and pitches; RuntimeError without espeak-ng."""
    chance = np.random.default_rng(seed)
    variants = HELD_OUT_VARIANTS if held_out else tuple(name for name in _VARIANTS if name not in HELD_OUT_VARIANTS)
    orders = []
    for language, accents in _ACCENTS.items():
        for accent, variant, _ in product(accents, variants, range(settings)):
            speed, pitch = int(chance.integers(110, 220)), int(chance.integers(20, 80))
            voice = f"{accent}+{variant}"
            orders += [(language, digit, voice, speed, pitch) for digit in range(10)]
    with ThreadPoolExecutor(4) as pool:
        return [clip for clip in pool.map(lambda order: _say(*order), orders) if len(clip.audio) > SAMPLE_RATE // 10]


def recorded(folder: Path) -> Iterator[Clip]:
    """Read `<digit>_<speaker>_<n>.wav` files, 8 kHz, as the Free Spoken Digit Dataset names them."""
    for path in sorted(folder.glob("*_*_*.wav")):
        digit, speaker, _ = path.stem.split("_")
        yield Clip("en", int(digit), speaker, _trimmed(_read(path.read_bytes())))


def save(clips: Sequence[Clip], path: Path) -> None:
    """Write the digits that tests speak with, two voices of a language."""
    kept = {f"{language}+{variant}" for language in ("en-us", "de", "es") for variant in HELD_OUT_VARIANTS[:2]}
    named = {f"{clip.language}/{clip.voice}/{clip.digit}": clip.audio for clip in clips if clip.voice in kept}
    np.savez_compressed(path, **{name: (audio * 32767).astype(np.int16) for name, audio in named.items()})


def saved(path: Path) -> list[Clip]:
    """Read what `save` wrote."""
    with np.load(path) as file:
        parts = [(name.split("/"), file[name]) for name in file.files]
    return [Clip(language, int(digit), voice, audio / np.float32(32767)) for (language, voice, digit), audio in parts]


def of_voices(clips: Sequence[Clip]) -> dict[tuple[str, str], list[list[Audio]]]:
    """Sort clips: language and voice -> digit -> the takes of it."""
    sorted_clips: dict[tuple[str, str], list[list[Audio]]] = {}
    for clip in clips:
        sorted_clips.setdefault((clip.language, clip.voice), [[] for _ in range(10)])[clip.digit].append(clip.audio)
    return {voice: takes for voice, takes in sorted_clips.items() if all(takes)}


def _say(language: str, digit: int, voice: str, speed: int, pitch: int) -> Clip:
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", WORDS[language][digit]]
    try:
        spoken = subprocess.run(command, capture_output=True, check=True)
    except FileNotFoundError:
        raise RuntimeError("espeak-ng is needed (Debian's package of that name)") from None
    return Clip(language, digit, voice, _trimmed(_read(spoken.stdout)))


def _read(data: bytes) -> Audio:
    with wave.open(io.BytesIO(data)) as file:
        rate = file.getframerate()
        # espeak-ng writes to a pipe before it knows the length.
        samples = np.frombuffer(file.readframes(60 * rate), "<i2").astype(np.float32)
    return resample(samples, SAMPLE_RATE / rate)


def resample(audio: Audio, factor: float) -> Audio:
    """Return the audio with `factor` times as many samples, by its spectrum."""
    length = max(2, round(len(audio) * factor))
    spectrum = np.fft.rfft(audio)
    resized = np.zeros(length // 2 + 1, np.complex64)
    kept = min(len(spectrum), len(resized))
    resized[:kept] = spectrum[:kept]
    return np.asarray(np.fft.irfft(resized, length) * factor, np.float32)


def _trimmed(audio: Audio) -> Audio:
    peak = float(np.abs(audio).max(initial=1e-9))
    loud = np.flatnonzero(np.abs(audio) > _SILENCE * peak)
    return audio[loud[0] : loud[-1] + 1] / peak if len(loud) else audio[:0]
