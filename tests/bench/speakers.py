"""Speakers: diarization error rate of the service and the engine alone, and the speakers of words in dialogues."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.audio import SAMPLE_RATE
from tests.bench.alone import engine_alone
from tests.bench.data import BenchData, Dialogue, Labelled, Samples, Span, decode, pcm_messages, wav_bytes
from tests.bench.figures import Figure, Measured, Target
from tests.bench.plan import Plan
from tests.bench.scoring import (
    DiarizationScore,
    SpeakerTurn,
    plain_words,
    read_rttm,
    right_speaker_counts,
    speaker_at,
)
from tests.bench.system import System

# What the design's recipe reached.
_RECIPE_LABELLED, _RECIPE_DIALOGUES = 0.26, 0.13
_RIGHT_SPEAKER = 95.0


@dataclass(frozen=True)
class _Reference:
    """A recording, who speaks when in it, and the region (seconds) that is scored."""

    name: str
    samples: Samples
    turns: Sequence[SpeakerTurn]
    region_s: Span


def measure_der(system: System, plan: Plan, data: BenchData) -> Measured:
    """Score `diarization` (trust A) and the joined dialogues through the gRPC service and by the engine alone."""
    labelled = data.labelled("diarization", ("A",))
    figures: list[Figure] = []
    per_file: dict[str, dict[str, float]] = {"service": {}, "alone": {}}
    for name, recipe, references in (
        ("diarization", _RECIPE_LABELLED, [_labelled_reference(entry) for entry in labelled]),
        ("dialogues", _RECIPE_DIALOGUES, [_dialogue_reference(dialogue) for dialogue in data.dialogues()]),
    ):
        plan.say(f"speakers: error rate, {name}")
        alone = engine_alone("diarize", {reference.name: reference.samples for reference in references})
        scores = {"service": DiarizationScore(), "alone": DiarizationScore()}
        for reference in references:
            pcm = pcm_messages(reference.samples.tobytes())
            served = system.diarize(pcm, len(reference.samples) / SAMPLE_RATE)
            for way, turns in (("service", served), ("alone", alone[reference.name].turns)):
                scores[way].add(reference.name, reference.turns, turns, reference.region_s)
        for way, score in scores.items():
            per_file[way] |= score.per_file
        service, engine = scores["service"].total, scores["alone"].total
        figures += [
            Figure(f"DER, {name}", service, target=Target(recipe), alone=engine, note=scores["service"].shares),
            Figure(f"DER over the engine's, {name}", round(service - engine, 6), target=Target(0.0)),
        ]
    return Measured(figures, {"der_per_file": per_file})


def measure_words(system: System, plan: Plan, data: BenchData) -> Measured:
    """Count the words of the joined dialogues that the edge gives to the right speaker.

    Alone: the same words, each given to the turn of the engine alone in which its middle lies.
    """
    dialogues = data.dialogues()
    alone = engine_alone("diarize", {dialogue.name: dialogue.samples for dialogue in dialogues})
    right = right_alone = aligned = 0
    notes = []
    for dialogue in dialogues:
        plan.say(f"speakers: words of {dialogue.name}")
        words = system.transcribe(wav_bytes(dialogue.samples), diarize=True).words
        reference = [(word, turn.speaker) for turn in dialogue.turns for word in plain_words(turn.text)]
        turns = alone[dialogue.name].turns
        by_edge = [(plain, word.speaker) for word in words for plain in plain_words(word.text)]
        by_engine = [
            (plain, speaker_at(turns, (word.start_s + word.end_s) / 2))
            for word in words
            for plain in plain_words(word.text)
        ]
        hits, total = right_speaker_counts(reference, by_edge)
        notes.append(f"{dialogue.name} {100 * hits / total:.1f}" if total else f"{dialogue.name} no words")
        right += hits
        right_alone += right_speaker_counts(reference, by_engine)[0]
        aligned += total
    figure = Figure(
        "words with the right speaker, dialogues",
        100 * right / aligned if aligned else None,
        "%",
        Target(_RIGHT_SPEAKER, at_least=True),
        100 * right_alone / aligned if aligned else None,
        "; ".join(notes),
    )
    return Measured([figure])


def _labelled_reference(entry: Labelled) -> _Reference:
    assert entry.rttm is not None
    return _Reference(entry.path.stem, decode(entry.path), read_rttm(entry.rttm), entry.region_s)


def _dialogue_reference(dialogue: Dialogue) -> _Reference:
    turns = [SpeakerTurn(turn.speaker, *span) for turn in dialogue.turns for span in turn.spans]
    return _Reference(dialogue.name, dialogue.samples, turns, (0.0, len(dialogue.samples) / SAMPLE_RATE))
