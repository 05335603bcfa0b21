"""What somebody who talks waits for: first words, finals, fresh partials; and how much of what he saw was taken back.

Pure: from known speech and the messages that came, times in seconds.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from tests.bench.microphone import Heard, Message, Speech
from tests.bench.scoring import plain_words

ENDPOINT_S = 0.5
_SLACK_S = 0.3


@dataclass
class Latencies:
    """Seconds over all utterances of all sessions, and the words that churn is made of."""

    first_s: list[float] = field(default_factory=list)
    final_s: list[float] = field(default_factory=list)
    between_s: list[float] = field(default_factory=list)
    taken_back: int = 0
    final_words: int = 0
    utterances: int = 0

    @property
    def churn(self) -> float:
        """Return how many shown words were later taken back, per final word."""
        return self.taken_back / max(self.final_words, 1)


def score(speeches: Sequence[Speech], heard: Sequence[Heard]) -> Latencies:
    """Score what sessions were told against what was said in them."""
    latencies = Latencies()
    for speech, told in zip(speeches, heard, strict=True):
        _score_utterances(speech, told.messages, latencies)
        _score_partials(told.messages, latencies)
    return latencies


def percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return p50, p95 and p99."""
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    return float(p50), float(p95), float(p99)


def _score_utterances(speech: Speech, messages: Sequence[Message], latencies: Latencies) -> None:
    for begin, end in speech.spans:
        latencies.utterances += 1
        finals = [
            message
            for message in messages
            if message.span and begin - _SLACK_S <= sum(message.span) / 2 <= end + _SLACK_S
        ]
        if not finals:
            continue
        # An utterance with a pause within has several finals; whoever spoke waits for the last.
        latencies.final_s.append(finals[-1].at_s - end - ENDPOINT_S)
        shown = (message.at_s for message in messages if message.text and begin <= message.at_s <= finals[0].at_s)
        latencies.first_s.append(min(shown) - begin)


def _score_partials(messages: Sequence[Message], latencies: Latencies) -> None:
    shown: list[Message] = []
    for message in messages:
        if message.text or shown:
            shown.append(message)
        if message.is_final or not message.text:
            latencies.final_words += len(plain_words(message.text))
            latencies.between_s += [later.at_s - earlier.at_s for earlier, later in pairwise(shown[:-1])]
            latencies.taken_back += sum(_lost(earlier.text, later.text) for earlier, later in pairwise(shown))
            shown = []


def _lost(earlier: str, later: str) -> int:
    """Count the words of `earlier` that `later` no longer shows in that order."""
    before, after = plain_words(earlier), plain_words(later)
    blocks = difflib.SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks()
    return len(before) - sum(block.size for block in blocks)
