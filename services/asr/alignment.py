"""Forced alignment: finds where in the audio words were said that are known to have been said.

Pocketsphinx with its bundled English model. It holds the interpreter's lock while it works, so it is only imported by
the alignment worker's process.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pocketsphinx import Decoder

from services.asr.engine import SAMPLE_RATE, Pcm
from services.asr.phones import guess
from services.asr.spoken import Slot, match, slots

_FRAME = SAMPLE_RATE // 100
_FILLERS = ("<", "[", "+")
# Digital silence, as in telephone audio above 4 kHz, is nothing the acoustic model ever saw: with this much noise under
# them, beside a level of 1, more joined digits align and their ends are found better. At ten times as much fewer do.
_NOISE = 0.01
_LEVEL = 2000.0
_MAX_GUESSED_WORDS = 20_000


@dataclass(frozen=True, slots=True)
class _Said:
    word: str
    start: int
    end: int


class ForcedAligner:
    """Aligns written English words with 16 kHz audio."""

    def __init__(self) -> None:
        """Load the acoustic model and the dictionary."""
        self._decoder = _load()
        self._guessed = 0

    def align(self, samples: Pcm, written: Sequence[str]) -> list[tuple[int, int]] | None:
        """Return where each written word begins and ends, in samples, or None when audio and words do not fit.

        A word of which nothing is said, such as a dash, has no length; it is at the end of the word before it.
        """
        said_as = [slots(word) for word in written]
        graph = [slot for word in said_as for slot in word]
        if not graph:
            return None
        said = self._decode(samples, graph)
        counts = None if said is None else match([word.word for word in said], graph)
        if said is None or counts is None:
            return None
        per_slot = iter(counts)
        per_word = [sum(next(per_slot) for _ in word) for word in said_as]
        return list(_spans(said, per_word, len(samples)))

    def _decode(self, samples: Pcm, graph: Sequence[Slot]) -> list[_Said] | None:
        """Return the words of the best way through `graph`, or None when none reaches its end."""
        self._know({word for slot in graph for alternative in slot for word in alternative})
        decoder = self._decoder
        states, arcs = _arcs(graph)
        decoder.add_fsg("words", decoder.create_fsg("words", 0, states, arcs))
        decoder.activate_search("words")
        decoder.start_utt()
        decoder.process_raw(_prepare(samples), full_utt=True)
        decoder.end_utt()
        if decoder.hyp() is None:
            return None
        return [
            _Said(segment.word.split("(")[0], segment.start_frame * _FRAME, (segment.end_frame + 1) * _FRAME)
            for segment in decoder.seg()
            if not segment.word.startswith(_FILLERS)
        ]

    def _know(self, words: set[str]) -> None:
        """Add a guess at the pronunciation of each word that the dictionary lacks."""
        if self._guessed > _MAX_GUESSED_WORDS:
            self._decoder, self._guessed = _load(), 0
        for word in sorted(words):
            if self._decoder.lookup_word(word) is None:
                self._decoder.add_word(word, self._pronounce(word), False)
                self._guessed += 1

    def _pronounce(self, word: str) -> str:
        stem = self._decoder.lookup_word(word[:-2]) if word.endswith("'s") else None
        return f"{stem} Z" if stem else guess(word)


def _prepare(samples: Pcm) -> bytes:
    """Return the samples at a common level, with a little noise, the same for the same samples."""
    audio = samples.astype(np.float32)
    audio /= max(1.0, float(np.sqrt(np.mean(audio**2))))
    audio += np.random.default_rng(0).standard_normal(len(audio), np.float32) * _NOISE
    return (audio * _LEVEL).clip(-32768, 32767).astype("<i2").tobytes()


def _load() -> Decoder:
    # Two frames of 10 ms share their scores (ds): less work, and no worse on the joined digits. Readers pause often.
    return Decoder(lm=None, ds=2, silprob=0.1, loglevel="FATAL")


_Arc = tuple[int, int, float] | tuple[int, int, float, str]


def _arcs(graph: Sequence[Slot]) -> tuple[int, list[_Arc]]:
    """Return the last state and the arcs of the automaton that says every slot in turn."""
    arcs: list[_Arc] = []
    ends = list(range(1, len(graph) + 1))
    spare = len(graph) + 1
    for start, (end, slot) in enumerate(zip(ends, graph, strict=True)):
        for alternative in slot:
            state = start
            for word in alternative[:-1]:
                arcs.append((state, spare, 1.0, word))
                state, spare = spare, spare + 1
            arcs.append((state, end, 1.0, alternative[-1]) if alternative else (state, end, 1.0))
    return len(graph), arcs


def _spans(said: Sequence[_Said], counts: Sequence[int], samples: int) -> Iterator[tuple[int, int]]:
    position, end = 0, said[0].start
    for count in counts:
        words = said[position : position + count]
        position += count
        start = words[0].start if words else end
        end = min(words[-1].end, samples) if words else end
        yield min(start, end), end
