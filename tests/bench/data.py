"""Recordings to measure with: the wheel's own, and labelled ones from the folder `BENCH_DATA` points to.

Everything is handed out as 16 kHz mono int16 samples with its reference. What is joined here has references that are
known from the joining: who speaks is the clip's reader, when is where the clip's energy says that speech is. No scoring
here.
"""

import importlib.util
import io
import itertools
import json
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from services.common.audio import MAX_MESSAGE_BYTES, SAMPLE_RATE

Samples = npt.NDArray[np.int16]
Span = tuple[float, float]

DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_WHEEL_RECORDINGS = ("two_cities.wav", "beckett.wav", "endgame_nagg_nell.wav")

# Turns by the beginnings of file names in `en_read`; their first four letters tell the readers apart.
_DIALOGUES = {
    "two readers": ("LJ001-0001", "sense:0870", "LJ001-0003", "sense:0890", "LJ001-0005", "sense:0880", "LJ001-0006"),
    "long turn": ("LJ001-0010", "sonnet_p001", "LJ001-0031", "LJ001-0011"),
    "three readers": ("sense:0870", "LJ001-0007", "sonnet_p002", "LJ001-0032", "sense:0890", "LJ001-0004"),
    "five readers": ("LJ001-0030", "jfk", "sense:0870", "beckett", "LJ001-0001", "2412-153948-0000", "LJ001-0003"),
}
_SENSE = "sense_and_sensibility_01_austen_64kb-"
_DIALOGUE_RMS = 0.05 * 32768


@dataclass(frozen=True)
class Labelled:
    """A recording with its reference; `rttm` and `region_s` only where speakers are labelled."""

    path: Path
    trust: str
    text: str
    rttm: Path | None
    region_s: Span
    language: str


@dataclass(frozen=True)
class Turn:
    """One reader's clip within a dialogue: who, what, the seconds of speech, and if others hold the floor around it."""

    speaker: str
    text: str
    spans: tuple[Span, ...]
    back_channel: bool = False


@dataclass(frozen=True)
class Dialogue:
    """Clips of several readers, one after the other."""

    name: str
    samples: Samples
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class SpokenDigit:
    """A digit's name and where it is spoken, in seconds."""

    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class DigitRecording:
    """Sequences of digits by one speaker."""

    name: str
    samples: Samples
    digits: tuple[SpokenDigit, ...]


@dataclass
class Joiner:
    """Lays clips and silence one after the other."""

    parts: list[Samples] = field(default_factory=list)
    samples: int = 0

    def add(self, clip: Samples) -> float:
        """Append `clip` and return the second it begins at."""
        start_s = self.samples / SAMPLE_RATE
        self.parts.append(clip)
        self.samples += len(clip)
        return start_s

    def pause(self, seconds: float) -> None:
        """Append digital silence."""
        self.add(np.zeros(round(seconds * SAMPLE_RATE), np.int16))

    def joined(self) -> Samples:
        """Return all of it."""
        return np.concatenate(self.parts)


def decode(path: Path) -> Samples:
    """Decode any audio file to 16 kHz mono."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    with av.open(str(path)) as container:
        frames = itertools.chain(container.decode(audio=0), (None,))
        blocks = [out.to_ndarray()[0] for frame in frames for out in resampler.resample(frame)]
    return np.concatenate(blocks).astype(np.int16)


def wav_bytes(samples: Samples) -> bytes:
    """Return the samples as a WAV file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(SAMPLE_RATE)
        wav.writeframes(samples.tobytes())
    return out.getvalue()


def wheel_recordings() -> Samples:
    """Return the real voices inside the wheel moonshine-voice, joined: 83 s of reading and a dialogue."""
    return np.concatenate(wheel_clips())


def wheel_clips() -> list[Samples]:
    """Return the recordings inside the wheel moonshine-voice, one by one."""
    spec = importlib.util.find_spec("moonshine_voice")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package moonshine-voice is not installed")
    assets = Path(spec.origin).parent / "assets"
    return [decode(assets / name) for name in _WHEEL_RECORDINGS]


def looped(samples: Samples, seconds: float) -> Samples:
    """Repeat `samples` to a length of `seconds`."""
    return np.resize(samples, round(seconds * SAMPLE_RATE))


def pcm_messages(pcm: bytes, total_bytes: int | None = None) -> Iterator[bytes]:
    """Cut PCM into messages of the largest size, again and again from its start until `total_bytes` are sent."""
    remaining = len(pcm) if total_bytes is None else total_bytes
    while remaining:
        for start in range(0, min(len(pcm), remaining), MAX_MESSAGE_BYTES):
            message = pcm[start : start + min(MAX_MESSAGE_BYTES, remaining)]
            remaining -= len(message)
            yield message


def voiced_spans(samples: Samples, *, below_peak_db: float, bridge_s: float) -> list[Span]:
    """Return the seconds in which the RMS of 10 ms, every 5 ms, is within `below_peak_db` of the loudest.

    Pauses shorter than `bridge_s` are taken as speech.
    """
    hop, width = SAMPLE_RATE // 200, SAMPLE_RATE // 100
    windows = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), width)[::hop]
    rms = np.sqrt((windows**2).mean(axis=1))
    loud = np.flatnonzero(rms >= rms.max() * 10 ** (-below_peak_db / 20))
    runs = np.split(loud, np.flatnonzero(np.diff(loud) * hop > bridge_s * SAMPLE_RATE) + 1)
    return [(int(run[0]) * hop / SAMPLE_RATE, (int(run[-1]) * hop + width) / SAMPLE_RATE) for run in runs]


def joined_turn(joiner: Joiner, clip: Samples, speaker: str, text: str, back_channel: bool = False) -> Turn:
    """Append somebody's clip and return its turn: speech is within 35 dB of its loudest, or a pause under 0.5 s."""
    start_s = joiner.add(clip)
    spans = voiced_spans(clip, below_peak_db=35, bridge_s=0.5)
    return Turn(speaker, text, tuple((start_s + begin, start_s + end) for begin, end in spans), back_channel)


class BenchData:
    """The folder of labelled recordings; each subfolder has a `manifest.jsonl` with a line per file."""

    def __init__(self, folder: Path) -> None:
        """Point to `folder`, which must exist."""
        if not folder.is_dir():
            raise FileNotFoundError(f"BENCH_DATA is {folder}, which is not a folder")
        self.folder = folder

    def labelled(self, kind: str, trusts: Sequence[str]) -> list[Labelled]:
        """Return the recordings of `kind` whose references are trusted as one of `trusts`."""
        return [entry for entry in self._entries(kind) if entry.trust in trusts]

    def _entries(self, kind: str) -> Iterator[Labelled]:
        folder = self.folder / kind
        for line in (folder / "manifest.jsonl").read_text().splitlines():
            row = json.loads(line)
            start, end = row.get("scoring_region_s") or (0.0, row["duration_s"])
            rttm = folder / row["rttm"] if row.get("rttm") else None
            yield Labelled(
                folder / row["file"], row["trust"], row.get("text") or "", rttm, (start, end), row.get("language") or ""
            )

    def reading(self, beginning: str) -> Labelled:
        """Return the first recording of `en_read` whose file name begins so."""
        return next(entry for entry in self._entries("en_read") if entry.path.name.startswith(beginning))

    def dialogues(self) -> list[Dialogue]:
        """Join turns of `en_read`: every clip at one loudness, 0.3 to 0.8 s of silence between them."""
        rng = np.random.default_rng(1)
        dialogues = []
        for name, beginnings in _DIALOGUES.items():
            joiner = Joiner()
            turns = []
            for beginning in beginnings:
                entry = self.reading(beginning.replace("sense:", _SENSE))
                joiner.pause(rng.uniform(0.3, 0.8))
                turns.append(joined_turn(joiner, at_rms(decode(entry.path)), beginning[:4], entry.text))
            dialogues.append(Dialogue(name, joiner.joined(), tuple(turns)))
        return dialogues

    def spoken_digits(self, speaker: str, count: int, rng: np.random.Generator) -> list[tuple[str, Samples]]:
        """Draw `count` of a speaker's single digits, none twice: their names and clips."""
        own = sorted((self.folder / "digits").glob(f"*_{speaker}_*.wav"))
        drawn = [own[int(pick)] for pick in rng.choice(len(own), count, replace=False)]
        return [(DIGIT_NAMES[int(path.stem[0])], decode(path)) for path in drawn]

    def digit_recordings(self, per_speaker: int) -> list[DigitRecording]:
        """Join spoken digits: 6 sequences of 5, 0.1 to 0.3 s between digits and 1 s between sequences.

        A digit begins and ends where its clip comes within 30 dB of its loudest.
        """
        rng = np.random.default_rng(2)
        speakers = sorted({path.stem.split("_")[1] for path in (self.folder / "digits").glob("*.wav")})
        recordings = []
        for speaker in speakers:
            for number in range(per_speaker):
                joiner = Joiner()
                digits: list[SpokenDigit] = []
                for name, clip in self.spoken_digits(speaker, 30, rng):
                    joiner.pause(1.0 if len(digits) % 5 == 0 else rng.uniform(0.1, 0.3))
                    start_s = joiner.add(clip)
                    ((begin, end),) = voiced_spans(clip, below_peak_db=30, bridge_s=np.inf)
                    digits.append(SpokenDigit(name, start_s + begin, start_s + end))
                joiner.pause(1.0)
                recordings.append(DigitRecording(f"{speaker}-{number}", joiner.joined(), tuple(digits)))
        return recordings


def at_rms(clip: Samples) -> Samples:
    """Return the clip at the loudness of everything that is joined."""
    scaled = clip * (_DIALOGUE_RMS / np.sqrt((clip.astype(np.float64) ** 2).mean()))
    return np.asarray(np.clip(scaled, -32768, 32767), np.int16)
