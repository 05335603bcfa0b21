"""Whisper on CTranslate2, by faster-whisper's parts: utterances of many requests go through it together.

The thresholds and temperatures of Whisper's own decoding are here; where words are cut is in `whisper_words`. At
temperature 0 an utterance's words do not depend on which others share its batch.
Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, section 4.5.
"""

import json
import math
import zlib
from collections.abc import Iterator, Sequence
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

from services.asr.engine import SAMPLE_RATE, EngineLostError, Hypothesis, Utterance
from services.asr.engines.whisper_words import cut
from services.common.errors import Reason, SttError
from services.common.languages import LANGUAGES

_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_BEST_OF = 5
_MAX_COMPRESSION = 2.4
_MIN_LOGPROB = -1.0
_MAX_NO_SPEECH = 0.6
_MAX_TOKENS = 448
_HOP = 160
_WINDOW_S = 30
_MAX_LIVE_CHUNK_S = 15.0
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
class _Try:
    """What one temperature gave for an utterance; `is_doubted` where the model took it for no speech at all."""

    temperature: float
    tokens: tuple[int, ...]
    logprob: float
    is_repetitive: bool
    is_doubted: bool

    @classmethod
    def of(cls, tokenizer: Tokenizer, temperature: float, result: WhisperGenerationResult) -> "_Try":
        """Read the likeliest sequence of a result."""
        said = len(result.sequences_ids[0])
        tokens = [token for token in result.sequences_ids[0] if token < tokenizer.eot]
        text = tokenizer.decode(tokens).strip().encode()
        # The score is a mean over what was said; the end of the text, which is not among it, was said, too.
        logprob = result.scores[0] * said / (said + 1)
        compression = len(text) / len(zlib.compress(text))
        is_doubted = result.no_speech_prob > _MAX_NO_SPEECH
        return cls(temperature, tuple(tokens), logprob, compression > _MAX_COMPRESSION, is_doubted)

    @property
    def is_silence(self) -> bool:
        return self.is_doubted and self.logprob < _MIN_LOGPROB

    @property
    def fails(self) -> bool:
        return (self.is_repetitive or self.logprob < _MIN_LOGPROB) and not self.is_silence

    @property
    def convinces(self) -> bool:
        return not self.fails and not self.is_silence


class Whisper:
    """A Whisper model of any size, multilingual or English."""

    def __init__(self, model_id: str, folder: Path, running: Running) -> None:
        """Load the CTranslate2 model in `folder`. Raises RuntimeError or OSError where it cannot be loaded."""
        self.id = model_id
        self.max_batch = running.max_batch
        self._beam_size = running.beam_size
        self._model = WhisperModel(
            str(folder),
            device=running.device,
            compute_type=running.compute_type,
            cpu_threads=1,
            num_workers=running.workers,
            local_files_only=True,
        )
        self._extract = self._model.feature_extractor
        self.languages = tuple(LANGUAGES) if self._model.model.is_multilingual else ("en",)
        self.max_chunk_s = float(self._extract.chunk_length)
        self.max_live_chunk_s = min(self.max_chunk_s, _MAX_LIVE_CHUNK_S)
        self._encodes_short = _encodes_short(folder)
        self._tokenizers: dict[str, Tokenizer] = {}
        # For what depends on no language; made whole now, since threads share it later.
        self._any_tokenizer = self._tokenizer(self.languages[0])
        self._suppressed = get_suppressed_tokens(self._any_tokenizer, [-1])

    def decode(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        """Transcribe; see `Engine.decode`."""
        hypotheses: list[Hypothesis] = [Hypothesis(())] * len(utterances)
        for frames, places in self._alike(utterances):
            group = [utterances[place] for place in places]
            for place, hypothesis in zip(places, self._decode_safely(group, frames), strict=True):
                hypotheses[place] = hypothesis
        return hypotheses

    def _alike(self, utterances: Sequence[Utterance]) -> Iterator[tuple[int, list[int]]]:
        """Yield the encoder's input lengths, in frames of 10 ms, with the places of the utterances of each.

        Padded to the longest of a batch, the shorter ones would sound different in every company.
        """
        places: dict[tuple[int, bool], list[int]] = {}
        for place, utterance in enumerate(utterances):
            seconds = math.ceil(len(utterance.samples) / SAMPLE_RATE) if self._encodes_short else _WINDOW_S
            places.setdefault((seconds * SAMPLE_RATE // _HOP, utterance.interim), []).append(place)
        for (frames, _), group in places.items():
            yield frames, group

    def _decode_safely(self, utterances: Sequence[Utterance], frames: int) -> list[Hypothesis]:
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

    def _decode(self, utterances: Sequence[Utterance], frames: int) -> list[Hypothesis]:
        """Transcribe utterances which the encoder takes as `frames` frames."""
        model = self._model.model
        heard = model.encode(StorageView.from_array(self._features(utterances, frames)))
        languages = [(utterance.language, 0.0) for utterance in utterances]
        if not model.is_multilingual:
            languages = [("en", 1.0)] * len(utterances)
        unknown = [place for place, (language, _) in enumerate(languages) if not language]
        if unknown:
            for place, best in zip(unknown, model.detect_language(_rows(heard, unknown)), strict=True):
                languages[place] = _likeliest(best)
        prompts = [self._prompt(language) for language, _ in languages]
        tries = self._search(heard, utterances, prompts)
        hypotheses = [Hypothesis((), language=language, certainty=certainty) for language, certainty in languages]
        said = {place: found for place, found in enumerate(tries) if found is not None and found.tokens}
        # The alignment takes one language at a time.
        for language in {languages[place][0] for place in said}:
            places = [place for place in said if languages[place][0] == language]
            tokens = [said[place].tokens for place in places]
            sizes = [min(frames, len(utterances[place].samples) // _HOP) for place in places]
            tokenizer = self._tokenizer(language)
            aligned = model.align(_rows(heard, places), tokenizer.sot_sequence, tokens, sizes)
            for place, found in zip(places, aligned, strict=True):
                words, spans = cut(tokenizer, said[place].tokens, found.text_token_probs, found.alignments)
                temperature = said[place].temperature
                hypotheses[place] = replace(hypotheses[place], words=words, spans=spans, temperature=temperature)
        return hypotheses

    def _search(
        self, heard: StorageView, utterances: Sequence[Utterance], prompts: Sequence[list[int]]
    ) -> list[_Try | None]:
        """Return for each utterance what the first temperature gave that convinces; None where nobody speaks.

        Where none convinces it is the likeliest try, unless more is being spoken: then it is nothing yet.
        """
        found: list[_Try | None] = [None] * len(utterances)
        left = list(range(len(utterances)))
        tries: dict[int, list[_Try]] = {place: [] for place in left}
        for temperature in _TEMPERATURES:
            beam_size = 1 if utterances[left[0]].interim else self._beam_size
            results = self._generate(_rows(heard, left), [prompts[place] for place in left], temperature, beam_size)
            for place, attempt in zip(left, results, strict=True):
                tries[place].append(attempt)
                if attempt.convinces:
                    found[place] = attempt
            left = [place for place in left if tries[place][-1].fails and not utterances[place].interim]
            if not left:
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
        return [_Try.of(self._any_tokenizer, temperature, result) for result in results]

    def _features(self, utterances: Sequence[Utterance], frames: int) -> Features:
        """Return the log-mel features, (utterances, mels, frames), zeros behind each utterance's end."""
        features = np.zeros((len(utterances), self._model.model.n_mels, frames), np.float32)
        for row, utterance in zip(features, utterances, strict=True):
            # The last frame is the padding's.
            mel = self._extract(utterance.samples.astype(np.float32) / 32768.0)[:, :-1][:, :frames]
            row[:, : mel.shape[1]] = mel
        return features

    def _prompt(self, language: str) -> list[int]:
        tokenizer = self._tokenizer(language)
        return [*tokenizer.sot_sequence, tokenizer.no_timestamps]

    def _tokenizer(self, language: str) -> Tokenizer:
        if language not in self._tokenizers:
            multilingual = self._model.model.is_multilingual
            self._tokenizers[language] = Tokenizer(self._model.hf_tokenizer, multilingual, "transcribe", language)
        return self._tokenizers[language]


def _likeliest(marks: Sequence[tuple[str, float]]) -> tuple[str, float]:
    """Return the likeliest language that callers can name, with its probability; `marks` begin with the likeliest."""
    languages = ((mark.strip("<|>"), probability) for mark, probability in marks)
    return next((code, probability) for code, probability in languages if code in LANGUAGES)


def _rows(heard: StorageView, places: Sequence[int]) -> StorageView:
    """Return the encoder's states of some utterances of a batch."""
    if list(places) == list(range(heard.shape[0])):
        return heard
    # CTranslate2 cannot select rows where they are, and numpy knows no bfloat16.
    states = heard if heard.device == "cpu" else heard.to_device(Device.cpu)
    states = states.to(DataType.float32) if states.dtype == DataType.bfloat16 else states
    return StorageView.from_array(np.array(states)[list(places)])


def _encodes_short(folder: Path) -> bool:
    """Return whether the model was trained with less silence than 30 s of padding, by its preprocessor's config."""
    try:
        return bool(json.loads((folder / "preprocessor_config.json").read_text()).get("encode_short", False))
    except FileNotFoundError:
        return False
