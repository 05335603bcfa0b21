"""Moonshine tiny-en on onnxruntime, with the weights that ship in the wheel `moonshine-voice` 0.1.0.

Greedy decoding and its guards live here; cutting audio and timing words do not.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from services.asr.engine import SAMPLE_RATE, Hypothesis, SpokenWord, Utterance, mean_probability
from services.asr.engines import EMBEDDED_ID

_BOS, _EOS = 1, 2
_HEADS, _HEAD_SIZE = 8, 36
_TOKENS_PER_S = 6.5
_SPARE_TOKENS = 8
# What speakers say again and again the decoder leaves by itself; a loop that fills the room for tokens is no speech.
_LOOP_TOKENS, _LOOP_REPEATS, _LOOP_PERIOD = 12, 4, 12
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


class Moonshine:
    """Moonshine tiny-en: English, with punctuation; the sessions are one-threaded and shared by the workers."""

    id = EMBEDDED_ID
    languages = ("en",)
    # Its weights are quantized by batch, so batch-mates would change each other's words.
    max_batch = 1
    max_chunk_s = 15.0
    max_live_chunk_s = 10.0
    live_tail_s = 0.5

    def __init__(self, model_dir: Path, *, confidence_floor: float) -> None:
        """Load the model; hypotheses whose confidence is below `confidence_floor` are taken for noise."""
        self._confidence_floor = confidence_floor
        self._encoder = _session(model_dir / "encoder_model.ort")
        self._decoder = _session(model_dir / "decoder_model_merged.ort")
        self._pieces = list(_read_pieces((model_dir / "tokenizer.bin").read_bytes()))
        present = [output.name for output in self._decoder.get_outputs() if output.name.startswith("present.")]
        self._grown = [name for name in present if ".decoder." in name]
        self._fixed = [name for name in present if ".encoder." in name]

    def decode(self, utterances: Sequence[Utterance]) -> list[Hypothesis]:
        """Transcribe each utterance greedily; see `Engine.decode`."""
        return [self._decode(utterance) for utterance in utterances]

    def _decode(self, utterance: Utterance) -> Hypothesis:
        tokens: list[int] = []
        logprobs: list[float] = []
        limit = int(len(utterance.samples) / SAMPLE_RATE * _TOKENS_PER_S) + _SPARE_TOKENS
        said: int | None = None
        for token, logprob in self._steps(utterance):
            tokens.append(token)
            logprobs.append(logprob)
            if said is None and (loop := _loop_length(tokens)):
                said = len(tokens) - loop
            if len(tokens) >= limit:
                del tokens[said:], logprobs[said:]
                break
        if mean_probability(logprobs) < self._confidence_floor:
            return Hypothesis(())
        return Hypothesis(tuple(self._words(tokens, logprobs)), tuple(tokens))

    def _steps(self, utterance: Utterance) -> Iterator[tuple[int, float]]:
        """Yield greedy tokens with their log-probabilities until the end of the sentence.

        A draft is judged in one step, as far as it is what greedy decoding would have said; each step after it is a
        token. For 8 s of speech that is 0.16 s instead of 0.4 s.
        """
        audio = (utterance.samples.astype(np.float32) / 32768.0)[np.newaxis]
        (states,) = self._encoder.run_with_ort_values(
            ["last_hidden_state"],
            {"input_values": _value(audio), "attention_mask": _value(np.ones(audio.shape, np.int64))},
        )
        nothing = _value(np.zeros((1, _HEADS, 0, _HEAD_SIZE), np.float32))
        feed = {_past(name): nothing for name in self._grown + self._fixed}
        # The decoder takes every 384th sample of the mask and broadcasts it: one sample says "all of it".
        feed["encoder_attention_mask"] = _value(np.ones((1, 1), np.int64))
        feed["encoder_hidden_states"] = states
        feed["use_cache_branch"] = _value(np.array([False]))
        outputs = ["logits", *self._grown, *self._fixed]
        given = [_BOS, *utterance.draft]
        while True:
            feed["input_ids"] = _value(np.array([given], np.int64))
            values = self._decoder.run_with_ort_values(outputs, feed)
            logits = values[0].numpy()[0]
            best = logits.argmax(-1).tolist()
            right = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(best, given[1:], strict=False)))
            for token, scores in zip(best[: right + 1], logits, strict=False):
                if token == _EOS:
                    return
                yield token, -float(np.log(np.exp(scores - scores[token]).sum()))
            cache = values[1:]
            if right + 1 < len(given):
                cache[: len(self._grown)] = [_first_positions(past, right + 1) for past in cache[: len(self._grown)]]
            feed.update(zip(map(_past, outputs[1:]), cache, strict=True))
            feed["use_cache_branch"] = _value(np.array([True]))
            outputs = ["logits", *self._grown]
            given = [token]

    def _words(self, tokens: Sequence[int], logprobs: Sequence[float]) -> Iterator[SpokenWord]:
        """Group tokens into words at the pieces that begin with a space."""
        space = _SPACE.encode()
        groups: list[tuple[bytes, list[float]]] = []
        for token, logprob in zip(tokens, logprobs, strict=True):
            piece = self._pieces[token]
            if not groups or piece.startswith(space):
                groups.append((piece, [logprob]))
            else:
                groups[-1] = (groups[-1][0] + piece, [*groups[-1][1], logprob])
        for raw, group in groups:
            # A run of spaces is one piece, and a byte-wise spelt character may have been left incomplete.
            text = raw.decode(errors="ignore").replace(_SPACE, "").strip()
            if text:
                yield SpokenWord(text, tuple(group))


def bundled_model_dir() -> Path:
    """Return the folder of the weights inside the installed wheel; FileNotFoundError where it has none."""
    spec = importlib.util.find_spec("moonshine_voice")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package moonshine-voice is not installed")
    folder = Path(spec.origin).parent / "assets" / "tiny-en"
    if not (folder / "encoder_model.ort").is_file():
        raise FileNotFoundError(f"{folder} has no weights; only moonshine-voice 0.1.0 carries them")
    return folder


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _value(array: npt.NDArray[np.generic]) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_numpy(array)


def _first_positions(past: ort.OrtValue, count: int) -> ort.OrtValue:
    return _value(np.ascontiguousarray(past.numpy()[:, :, :count]))


def _past(name: str) -> str:
    return name.replace("present.", "past_key_values.")


def _loop_length(tokens: Sequence[int]) -> int:
    """Return how many of the last tokens only repeat what stands before them, 0 while there is no loop."""
    for period in range(1, _LOOP_PERIOD + 1):
        repeats = max(_LOOP_REPEATS, -(-_LOOP_TOKENS // period))
        span = period * repeats
        if len(tokens) >= span and tokens[-span:-period] == tokens[-span + period :]:
            return span - period
    return 0


def _read_pieces(data: bytes) -> Iterator[bytes]:
    """Read `tokenizer.bin`: pieces, each behind its length in one byte, or two from 128 on (low seven bits first)."""
    position = 0
    while position < len(data):
        length = data[position]
        position += 1
        if length >= 128:
            length += (data[position] - 1) * 128
            position += 1
        yield data[position : position + length]
        position += length
