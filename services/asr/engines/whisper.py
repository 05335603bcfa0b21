"""Whisper on CTranslate2, by faster-whisper's parts: utterances of many requests go through it together.

The thresholds and temperatures of Whisper's own decoding are here; where words are cut is in `whisper_words`. At
temperature 0 an utterance's words do not depend on which others share its batch.
Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, section 4.5.
"""

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import structlog
from ctranslate2 import DataType, Device, StorageView
from ctranslate2.models import WhisperGenerationResult
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens

from services.asr.engine import SAMPLE_RATE, EngineLostError, Hypothesis, Options, Utterance
from services.asr.engines.whisper_words import cut
from services.common.errors import Reason, SttError
from services.common.languages import LANGUAGES

_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_BEST_OF = 5
_MAX_COMPRESSION = 2.4
_MIN_LOGPROB = -1.0
_MAX_TOKENS = 448
_MAX_PROMPT_TOKENS = 224
# Said twice at the end: the fault of short windows.
_LEAST_REPEATED_WORDS = 2
_HOP = 160
_WINDOW_S = 30
# The silence that a short window has behind the speech; with less, models go on speaking.
_SILENCE_S = 2
_MAX_LIVE_CHUNK_S = 15.0
_LIVE_TAIL_S = 0.2
# Short windows come in lengths a step apart, so that utterances share them.
_WINDOW_STEP_S = 4
_TRANSLATION = "en"
_LEAST_PROBABILITY = 1e-10
_OVERLOADED_RETRY_S = 5.0
_OUT_OF_MEMORY = "out of memory"
_LOST = ("CUDA failed", "cuBLAS failed", "cuDNN failed")

Features = npt.NDArray[np.float32]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Running:
    """How a model is run: `compute_type` as CTranslate2 names it, `workers` the threads that decode at once."""

    device: str
    compute_type: str
    workers: int
    max_batch: int
    beam_size: int


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was measured for one model; else it is as in Whisper's own decoding.

    The encoder hears windows of at least `least_window_s`. What is likelier no speech than `max_no_speech` is none, if
    its words have less than `min_speech_logprob` on the mean.
    """

    least_window_s: float = 30.0
    max_no_speech: float = 0.6
    min_speech_logprob: float = -1.0


UNTUNED = Tuning()


@dataclass(frozen=True, slots=True)
class _Try:
    """What one temperature gave for an utterance; `is_silence` where the model took it for no speech at all.

    `ends_twice`: the last words were said before, by speakers who repeat themselves and by models that do not stop.
    """

    temperature: float
    tokens: tuple[int, ...]
    logprob: float
    is_repetitive: bool
    is_silence: bool
    ends_twice: bool

    @classmethod
    def of(cls, tokenizer: Tokenizer, tuning: Tuning, temperature: float, result: WhisperGenerationResult) -> "_Try":
        """Read the likeliest sequence of a result."""
        said = len(result.sequences_ids[0])
        tokens = [token for token in result.sequences_ids[0] if token < tokenizer.eot]
        said_text = tokenizer.decode(tokens).strip()
        text = said_text.encode()
        # The score is a mean over what was said; the end of the text, which is not among it, was said, too.
        logprob = result.scores[0] * said / (said + 1)
        compression = len(text) / len(zlib.compress(text))
        is_silence = result.no_speech_prob > tuning.max_no_speech and logprob < tuning.min_speech_logprob
        is_repetitive = compression > _MAX_COMPRESSION
        return cls(temperature, tuple(tokens), logprob, is_repetitive, is_silence, _ends_twice(said_text))

    @property
    def fails(self) -> bool:
        return (self.is_repetitive or self.logprob < _MIN_LOGPROB) and not self.is_silence

    @property
    def convinces(self) -> bool:
        return not self.fails and not self.is_silence


class Whisper:
    """A Whisper model of any size, multilingual or English."""

    def __init__(
        self, model_id: str, files: Path | Mapping[str, bytes], running: Running, tuning: Tuning = UNTUNED
    ) -> None:
        """Load the CTranslate2 model of `files`: a folder, or the files' content by name.

        Raises RuntimeError or OSError where it cannot be loaded.
        """
        self.id = model_id
        self._tuning = tuning
        self.max_batch = running.max_batch
        self._beam_size = running.beam_size
        self._model = WhisperModel(
            str(files) if isinstance(files, Path) else model_id,
            files=None if isinstance(files, Path) else dict(files),
            device=running.device,
            compute_type=running.compute_type,
            cpu_threads=1,
            num_workers=running.workers,
            local_files_only=True,
        )
        self._extract = self._model.feature_extractor
        self.languages = tuple(LANGUAGES) if self._model.model.is_multilingual else ("en",)
        self.max_chunk_s = float(_WINDOW_S)
        self.max_live_chunk_s = _MAX_LIVE_CHUNK_S
        self.live_tail_s = _LIVE_TAIL_S
        self._tokenizers: dict[str, Tokenizer] = {}
        # For what depends on no language; made whole now, since threads share it later.
        self._any_tokenizer = self._tokenizer(self.languages[0])
        self._suppressed = get_suppressed_tokens(self._any_tokenizer, [-1])

    def decode(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        """Transcribe; see `Engine.decode`. What does not convince in a short window is heard again in a full one."""
        hypotheses: list[Hypothesis | None] = [None] * len(utterances)
        for is_short in (True, False):
            left = [place for place, hypothesis in enumerate(hypotheses) if hypothesis is None]
            for frames, places in self._alike(utterances, left, is_short=is_short):
                group = [utterances[place] for place in places]
                for place, hypothesis in zip(places, self._decode_safely(group, frames), strict=True):
                    hypotheses[place] = hypothesis
        return [hypothesis or Hypothesis(()) for hypothesis in hypotheses]

    def _alike(
        self, utterances: Sequence[Utterance], left: Sequence[int], *, is_short: bool
    ) -> Iterator[tuple[int, list[int]]]:
        """Yield the encoder's input lengths, in frames of 10 ms, with the places of the utterances of each.

        Padded to the longest of a batch, the shorter ones would sound different in every company. What is generated
        together has prompts of one length.
        """
        places: dict[tuple[int, bool, int], list[int]] = {}
        for place in left:
            utterance = utterances[place]
            seconds = self._short_window_s(len(utterance.samples)) if is_short else _WINDOW_S
            key = seconds * SAMPLE_RATE // _HOP, utterance.interim, len(self._context(utterance.options))
            places.setdefault(key, []).append(place)
        for (frames, *_), group in places.items():
            yield frames, group

    def _short_window_s(self, samples: int) -> int:
        """Return the length of the window for so much speech."""
        least_s = math.ceil(self._tuning.least_window_s)
        steps = math.ceil((samples / SAMPLE_RATE + _SILENCE_S - least_s) / _WINDOW_STEP_S)
        return min(_WINDOW_S, least_s + max(0, steps) * _WINDOW_STEP_S)

    def _decode_safely(self, utterances: Sequence[Utterance], frames: int) -> list[Hypothesis | None]:
        """Transcribe; what there is no memory for together is tried one by one."""
        try:
            return self._decode(utterances, frames)
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, MemoryError) or _OUT_OF_MEMORY in str(error):
                if len(utterances) > 1:
                    _log.warning("no memory for a batch", model=self.id, utterances=len(utterances))
                    return [self._decode_safely([utterance], frames)[0] for utterance in utterances]
                message = "There is no memory left to transcribe this with."
                raise SttError(Reason.OVERLOADED, message, retry_after_s=_OVERLOADED_RETRY_S) from error
            if str(error).startswith(_LOST):
                raise EngineLostError(self.id) from error
            raise

    def _decode(self, utterances: Sequence[Utterance], frames: int) -> list[Hypothesis | None]:
        """Transcribe utterances which the encoder takes as `frames` frames; None for what needs the full window."""
        model = self._model.model
        heard = model.encode(StorageView.from_array(self._features(utterances, frames)))
        languages = [(utterance.language, 0.0) for utterance in utterances]
        if not model.is_multilingual:
            languages = [("en", 1.0)] * len(utterances)
        unknown = [place for place, (language, _) in enumerate(languages) if not language]
        if unknown:
            for place, best in zip(unknown, model.detect_language(_rows(heard, unknown)), strict=True):
                languages[place] = _likeliest(best, utterances[place].options.languages)
        prompts = [
            self._prompt(language, utterance.options)
            for utterance, (language, _) in zip(utterances, languages, strict=True)
        ]
        tries = self._search(heard, utterances, prompts, is_full=frames == _WINDOW_S * SAMPLE_RATE // _HOP)
        hypotheses: list[Hypothesis | None] = [
            None if found is None else Hypothesis((), language=language, certainty=certainty)
            for found, (language, certainty) in zip(tries, languages, strict=True)
        ]
        said = {place: found for place, found in enumerate(tries) if found is not None and found.tokens}
        # The alignment takes one language and task at a time.
        tasks = {place: (languages[place][0], utterances[place].options.translate) for place in said}
        for language, translate in set(tasks.values()):
            places = [place for place in said if tasks[place] == (language, translate)]
            tokens = [said[place].tokens for place in places]
            sizes = [min(frames, len(utterances[place].samples) // _HOP) for place in places]
            tokenizer = self._tokenizer(_TRANSLATION if translate else language)
            aligned = model.align(_rows(heard, places), self._start(language, translate), tokens, sizes)
            for place, found in zip(places, aligned, strict=True):
                words, spans = cut(tokenizer, said[place].tokens, found.text_token_probs, found.alignments)
                certainty, temperature = languages[place][1], said[place].temperature
                hypotheses[place] = Hypothesis(words, (), spans, language, certainty, temperature)
        return hypotheses

    def _search(
        self, heard: StorageView, utterances: Sequence[Utterance], prompts: Sequence[list[int]], *, is_full: bool
    ) -> list[_Try | None]:
        """Return for each utterance what the first temperature gave that convinces; without tokens where nobody speaks.

        Where none convinces it is the likeliest try; where more is being spoken, nothing yet. In a window that is not
        full there is one temperature, and what does not convince at it is None.
        """
        found: list[_Try | None] = [None] * len(utterances)
        left = list(range(len(utterances)))
        tries: dict[int, list[_Try]] = {place: [] for place in left}
        for temperature in _TEMPERATURES:
            beam_size = 1 if utterances[left[0]].interim else self._beam_size
            results = self._generate(_rows(heard, left), [prompts[place] for place in left], temperature, beam_size)
            for place, attempt in zip(left, results, strict=True):
                tries[place].append(attempt)
                is_interim = utterances[place].interim
                if attempt.convinces and (is_full or is_interim or not attempt.ends_twice):
                    found[place] = attempt
                elif attempt.is_silence or is_interim:
                    found[place] = replace(attempt, tokens=())
            left = [place for place in left if found[place] is None]
            if not left or not is_full:
                return found
        for place in left:
            found[place] = max(tries[place], key=lambda attempt: (not attempt.is_repetitive, attempt.logprob))
        return found

    def _generate(self, heard: StorageView, prompts: list[list[int]], temperature: float, beam_size: int) -> list[_Try]:
        sampling = {"num_hypotheses": _BEST_OF, "sampling_topk": 0, "sampling_temperature": temperature}
        results = self._model.model.generate(
            heard,
            prompts,
            max_length=_MAX_TOKENS,
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=True,
            suppress_tokens=self._suppressed,
            **({"beam_size": 1, **sampling} if temperature else {"beam_size": beam_size}),
        )
        return [_Try.of(self._any_tokenizer, self._tuning, temperature, result) for result in results]

    def _features(self, utterances: Sequence[Utterance], frames: int) -> Features:
        """Return the log-mel features, (utterances, mels, frames).

        Behind an utterance a full window has zeros, as everybody gives them, and a short one what lies half-way between
        them and silence: after zeros short utterances are said twice, after silence more is misheard.
        """
        features = np.zeros((len(utterances), self._model.model.n_mels, frames), np.float32)
        is_full = frames == _WINDOW_S * SAMPLE_RATE // _HOP
        for row, utterance in zip(features, utterances, strict=True):
            # The last frame is the padding's.
            mel = self._extract(utterance.samples.astype(np.float32) / 32768.0)[:, :-1][:, :frames]
            if not is_full:
                row[:] = mel.min(initial=0.0) / 2
            row[:, : mel.shape[1]] = mel
        return features

    def _prompt(self, language: str, options: Options) -> list[int]:
        return [
            *self._context(options),
            *self._start(language, options.translate),
            self._any_tokenizer.no_timestamps,
        ]

    def _start(self, language: str, translate: bool) -> list[int]:
        """Return the marks that the text begins with."""
        tokenizer = self._tokenizer(language)
        marks = {tokenizer.transcribe: tokenizer.translate} if translate else {}
        return [marks.get(token, token) for token in tokenizer.sot_sequence]

    def _context(self, options: Options) -> list[int]:
        """Return the tokens of the text that the speech is said to follow: the keywords, then the prompt's end."""
        if not options.prompt and not options.keywords:
            return []
        tokenizer = self._any_tokenizer
        keywords, prompt = (
            # What is written like one of the model's own marks is no text.
            [token for token in tokenizer.encode(f" {text}") if token < tokenizer.eot] if text else []
            for text in (", ".join(options.keywords), options.prompt)
        )
        del keywords[_MAX_PROMPT_TOKENS:]
        room = _MAX_PROMPT_TOKENS - len(keywords)
        return [tokenizer.sot_prev, *keywords, *prompt[max(0, len(prompt) - room) :]]

    def _tokenizer(self, language: str) -> Tokenizer:
        if language not in self._tokenizers:
            multilingual = self._model.model.is_multilingual
            self._tokenizers[language] = Tokenizer(self._model.hf_tokenizer, multilingual, "transcribe", language)
        return self._tokenizers[language]


def _likeliest(marks: Sequence[tuple[str, float]], allowed: Sequence[str]) -> tuple[str, float]:
    """Return the likeliest language that is allowed (all that callers can name, where none is), with its probability.

    `marks` begin with the likeliest. Among those that are allowed the probabilities sum up to 1.
    """
    languages = [(mark.strip("<|>"), probability) for mark, probability in marks]
    possible = [pair for pair in languages if pair[0] in (allowed or LANGUAGES)]
    code, probability = possible[0]
    return code, probability / max(sum(each for _, each in possible), _LEAST_PROBABILITY)


def _ends_twice(text: str) -> bool:
    """Return whether the last words, at least two, stand twice in a row."""
    words = ["".join(filter(str.isalnum, word)) for word in text.casefold().split()]
    return any(words[-size:] == words[-2 * size : -size] for size in range(_LEAST_REPEATED_WORDS, len(words) // 2 + 1))


def _rows(heard: StorageView, places: Sequence[int]) -> StorageView:
    """Return the encoder's states of some utterances of a batch."""
    if list(places) == list(range(heard.shape[0])):
        return heard
    # CTranslate2 cannot select rows where they are, and numpy knows no bfloat16.
    states = heard if heard.device == "cpu" else heard.to_device(Device.cpu)
    states = states.to(DataType.float32) if states.dtype == DataType.bfloat16 else states
    return StorageView.from_array(np.array(states)[list(places)])
