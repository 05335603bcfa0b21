"""The embedded engine: reads the transcript, ranks its sentences or finds its commitments, off the event loop."""

import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

from services.common import engine_work
from services.summarize.engine import NO_ACTION_ITEMS, Caveat, Delta, Style
from services.summarize.engines.extractive import styles
from services.summarize.engines.extractive.actions import Action, find_actions, may_hold_action
from services.summarize.engines.extractive.cleaning import capitalize, clean, clip
from services.summarize.engines.extractive.language import content_words, looks_english
from services.summarize.engines.extractive.sentences import split_sentences
from services.summarize.transcript import read_turns, visible

MODEL = "extractive-lexrank"
_TASK_CHARS = 200
_FORMS = {
    Style.BRIEF: styles.brief,
    Style.DETAILED: styles.detailed,
    Style.BULLET_POINTS: styles.bullet_points,
    Style.HEADLINE: styles.headline,
}
_NOT_ENGLISH = Caveat(
    "LANGUAGE_ASSUMED", "The text does not look like English, the language this model knows; the choice may be worse."
)
_NOT_ENGLISH_ACTIONS = Caveat(
    "LANGUAGE_ASSUMED", "The text does not look like English; action items are found in English only."
)


class ExtractiveEngine:
    """Answers with the transcript's own sentences; `executor` is where it thinks and is not the engine's to close."""

    model = MODEL
    is_ready = is_alive = True

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def summarize(self, text: str, style: Style) -> AsyncGenerator[Delta | Caveat, None]:
        """Yield a caveat where the text is not English, then the summary sentence by sentence."""
        stop = threading.Event()
        try:
            pieces = await engine_work.run(self._executor, MODEL, "text", _summarize, text, style, stop)
        finally:
            stop.set()
        for piece in pieces:
            yield piece


@dataclass(frozen=True, slots=True)
class _Spoken:
    speaker: str | None
    text: str


def _summarize(text: str, style: Style, stop: threading.Event) -> list[Delta | Caveat]:
    pieces: list[Delta | Caveat] = []
    if not looks_english(text):
        pieces.append(_NOT_ENGLISH_ACTIONS if style is Style.ACTION_ITEMS else _NOT_ENGLISH)
    spoken = list(_read(text, stop))
    deltas = _action_items(spoken, stop) if style is Style.ACTION_ITEMS else _extract(text, spoken, style, stop)
    return pieces + [Delta(delta) for delta in deltas]


def _read(text: str, stop: threading.Event) -> Iterator[_Spoken]:
    for turn in read_turns(text):
        for sentence in split_sentences(turn.text):
            if stop.is_set():
                return
            yield _Spoken(turn.speaker, sentence)


def _extract(text: str, spoken: list[_Spoken], style: Style, stop: threading.Event) -> Iterator[str]:
    sentences: list[str] = []
    words: list[list[str]] = []
    for utterance in spoken:
        if stop.is_set():
            return iter(())
        if found := content_words(utterance.text):
            sentences.append(utterance.text)
            words.append(found)
    if not sentences:  # nothing but small talk, or not a word
        sentences = [utterance.text for utterance in spoken] or [visible(text)]
        words = [sentence.lower().split() for sentence in sentences]
    return _FORMS[style](styles.rank(sentences, words))


def _action_items(spoken: list[_Spoken], stop: threading.Event) -> Iterator[str]:
    speakers = list(dict.fromkeys(utterance.speaker for utterance in spoken if utterance.speaker))
    seen: set[str] = set()
    for utterance in spoken:
        if stop.is_set():
            return
        if not may_hold_action(utterance.text):
            continue
        for action in find_actions(clean(utterance.text)):
            line = _line(action, utterance.speaker, speakers)
            if line.lower() in seen:
                continue
            yield f"\n{line}" if seen else line
            seen.add(line.lower())
    if not seen:
        yield NO_ACTION_ITEMS


def _line(action: Action, speaker: str | None, speakers: list[str]) -> str:
    who = action.who
    if who.lower() == "i" and speaker:
        who = speaker
    elif who.lower() == "you" and speaker and len(speakers) == 2:
        who = next(other for other in speakers if other != speaker)
    when = f" ({action.when})" if action.when else ""
    return (
        f"- {capitalize(who)}: {clip(action.task, _TASK_CHARS)}{when}"
        if who
        else f"- {clip(action.task, _TASK_CHARS)}{when}"
    )
