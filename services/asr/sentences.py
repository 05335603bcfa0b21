"""Makes segments of words: at the ends of sentences, and at long pauses."""

import re
from collections.abc import Sequence

from services.asr.engine import Hypothesis, mean_probability
from services.asr.transcript import Segment, Timing, Word

_LONG_PAUSE_S = 1.0
_SENTENCE_END = re.compile(r"""[.?!…。？！؟।]["'”’)\]」』）]*$""")
# A full stop behind these, or behind a single capital letter, does not end a sentence.
_ABBREVIATION = re.compile(r"""["'“‘(]*(?:[A-Z]|(?:[A-Za-z]\.)+[A-Za-z]|Mrs?|Ms|Dr|St|Prof|Jr|Sr|vs|No)\.""")


def split(words: Sequence[Word], hypothesis: Hypothesis, timing: Timing, language: str) -> list[Segment]:
    """Return the segments of one chunk; `words` are the hypothesis' own, with times."""
    segments: list[Segment] = []
    begin = 0
    for end in range(1, len(words) + 1):
        if end == len(words) or _ends_segment(words[begin:end], words[end]):
            logprobs = [value for word in hypothesis.words[begin:end] for value in word.logprobs]
            segments.append(Segment(tuple(words[begin:end]), mean_probability(logprobs), timing, language))
            begin = end
    return segments


def _ends_segment(words: Sequence[Word], following: Word) -> bool:
    """Return whether a segment of `words` ends before `following`."""
    last = words[-1]
    if following.start_s - last.end_s >= _LONG_PAUSE_S:
        return True
    # A question or exclamation within a sentence goes on in lower case.
    return bool(_SENTENCE_END.search(last.text)) and not (
        _ABBREVIATION.fullmatch(last.text) or following.text[0].islower()
    )
