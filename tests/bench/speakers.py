"""Speakers: diarization error rate of the service and the engine alone, and the speakers of words in dialogues."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.common.audio import SAMPLE_RATE
from tests.bench.alone import engine_alone
from tests.bench.conversations import conversations
from tests.bench.counting import short_dialogues
from tests.bench.data import BenchData, Dialogue, Labelled, Samples, Span, decode, pcm_messages, wav_bytes
from tests.bench.figures import Figure, Measured, Target
from tests.bench.plan import Plan
from tests.bench.scoring import (
    DiarizationScore,
    SpeakerTurn,
    TimedWord,
    read_rttm,
    read_stm,
    right_speakers,
    speaker_at,
    spoken_words,
    words_by_turns,
)
from tests.bench.system import System

# What the design's recipe reached.
_RECIPE_LABELLED, _RECIPE_DIALOGUES = 0.26, 0.13
_RIGHT_SPEAKER = 95.0
_SEEDS = (1, 2, 3)
_RIGHT_NUMBERS = 81
"""27 of 28, for three seeds."""


@dataclass(frozen=True)
class Reference:
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
        ("diarization", _RECIPE_LABELLED, [labelled_reference(entry) for entry in labelled]),
        ("dialogues", _RECIPE_DIALOGUES, [dialogue_reference(dialogue) for dialogue in data.dialogues()]),
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
    """Count the words that the edge gives to the right speaker, with and without their number given.

    Alone: the same words, each given to the turn of the engine alone (not told the number) in which its middle lies.
    """
    figures: list[Figure] = []
    for name, target, talks in (
        ("clear dialogues", _RIGHT_SPEAKER, [_talk(dialogue) for dialogue in data.dialogues()]),
        ("conversations", None, [_talk(conversation) for conversation in conversations(data)]),
        ("meetings and calls", None, [_labelled_talk(entry) for entry in data.labelled("diarization", ("A",))]),
    ):
        alone = engine_alone("diarize", {talk.name: talk.samples for talk in talks})
        by_engine, unnamed = _Tally(), 0
        for given in (False, True):
            by_edge, back_channels = _Tally(), _Tally()
            for talk in talks:
                plan.say(f"speakers: words of {talk.name}")
                number = talk.speakers if given else 0
                words = system.transcribe(wav_bytes(talk.samples), diarize=True, speakers=number).words
                turns = alone[talk.name].turns
                middles = [speaker_at(turns, (word.start_s + word.end_s) / 2) for word in words]
                right = talk.right(words, [word.speaker for word in words])
                by_edge.add(talk.name, right.values())
                back_channels.add(talk.name, [hit for place, hit in right.items() if place in talk.back_channels])
                if not given:
                    by_engine.add(talk.name, talk.right(words, middles).values())
                # Where diarization heard nobody there is nobody to name.
                unnamed += sum(not word.speaker for word in words) if turns else 0
            suffix = ", number given" if given else ""
            engine = None if given else by_engine.share
            limit = None if target is None else Target(target, at_least=True)
            figures.append(
                Figure(f"words with the right speaker, {name}{suffix}", by_edge.share, "%", limit, engine, by_edge.note)
            )
            if back_channels.total:
                shown = f"{back_channels.total} words said by somebody else between the holder's"
                figures.append(Figure(f"of these, back-channels{suffix}", back_channels.share, "%", note=shown))
        figures.append(Figure(f"words without a speaker, {name}", unnamed, target=Target(0)))
    return Measured([*figures, _count(system, plan, data)])


def _count(system: System, plan: Plan, data: BenchData) -> Figure:
    """Count the short dialogues in which the service finds as many speakers as there are."""
    plan.say("speakers: their number in short dialogues")
    dialogues = [dialogue for seed in _SEEDS for dialogue in short_dialogues(data, seed)]
    errors = []
    for dialogue in dialogues:
        turns = system.diarize(pcm_messages(dialogue.samples.tobytes()), len(dialogue.samples) / SAMPLE_RATE)
        there = len({turn.speaker for turn in dialogue.turns})
        if (found := len({turn.speaker for turn in turns})) != there:
            errors.append(f"{dialogue.name} {found} for {there}")
    target, right = Target(_RIGHT_NUMBERS, at_least=True), len(dialogues) - len(errors)
    return Figure("right numbers of speakers", right, f"of {len(dialogues)}", target, note="; ".join(errors))


@dataclass(frozen=True)
class _Talk:
    """A recording with its words: (word, speaker) in order, or, where only turns are known, none."""

    name: str
    samples: Samples
    turns: Sequence[SpeakerTurn]
    words: Sequence[tuple[str, str]] = ()
    back_channels: frozenset[int] = frozenset()

    @property
    def speakers(self) -> int:
        """Return how many speak."""
        return len({speaker for _, speaker in self.words} or {turn.speaker for turn in self.turns})

    def right(self, words: Sequence[TimedWord], speakers: Sequence[str]) -> dict[int, bool]:
        """Tell of each comparable word whether the speaker it was given is right.

        Without reference words, the recognized ones are compared that lie in one reference speaker's turns alone.
        """
        if self.words:
            named = zip(words, speakers, strict=True)
            return right_speakers(
                self.words, [(plain, who) for word, who in named for plain in spoken_words(word.text)]
            )
        given = dict(zip(words, speakers, strict=True))
        labelled = words_by_turns(words, self.turns)
        places = [str(place) for place in range(len(labelled))]
        return right_speakers(
            [(place, speaker) for place, (_, speaker) in zip(places, labelled, strict=True)],
            [(place, given[word]) for place, (word, _) in zip(places, labelled, strict=True)],
        )


class _Tally:
    """Words counted over recordings."""

    def __init__(self) -> None:
        self.total = 0
        self._right = 0
        self._notes: list[str] = []

    def add(self, name: str, right: Iterable[bool]) -> None:
        """Count the words of one recording."""
        hits = list(right)
        self.total += len(hits)
        self._right += sum(hits)
        self._notes.append(f"{name} {100 * sum(hits) / len(hits):.1f}" if hits else f"{name} no words")

    @property
    def share(self) -> float | None:
        """Return the percentage of all words that are right."""
        return 100 * self._right / self.total if self.total else None

    @property
    def note(self) -> str:
        """Return the percentages of the recordings."""
        return "; ".join(self._notes)


def _talk(dialogue: Dialogue) -> _Talk:
    words: list[tuple[str, str]] = []
    back_channels: list[int] = []
    for turn in dialogue.turns:
        said = spoken_words(turn.text)
        if turn.back_channel:
            back_channels += range(len(words), len(words) + len(said))
        words += [(word, turn.speaker) for word in said]
    return _Talk(dialogue.name, dialogue.samples, (), words, frozenset(back_channels))


def _labelled_talk(entry: Labelled) -> _Talk:
    reference, stm = labelled_reference(entry), entry.path.with_suffix(".stm")
    return _Talk(reference.name, reference.samples, reference.turns, read_stm(stm) if stm.is_file() else ())


def labelled_reference(entry: Labelled) -> Reference:
    """Return a labelled recording with its speakers' turns."""
    assert entry.rttm is not None
    return Reference(entry.path.stem, decode(entry.path), read_rttm(entry.rttm), entry.region_s)


def dialogue_reference(dialogue: Dialogue) -> Reference:
    """Return a joined dialogue with its readers' turns."""
    turns = [SpeakerTurn(turn.speaker, *span) for turn in dialogue.turns for span in turn.spans]
    return Reference(dialogue.name, dialogue.samples, turns, (0.0, len(dialogue.samples) / SAMPLE_RATE))
