"""Whisper's multilingual vocabulary as a `tokenizers` file: its pieces, then marks for languages, tasks and times.

Source: the asset `multilingual.tiktoken` of the package openai-whisper (MIT).
"""

import base64
import importlib.util
from itertools import pairwise
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from services.common.languages import LANGUAGES

END = "<|endoftext|>"
START = "<|startoftranscript|>"
TRANSCRIBE = "<|transcribe|>"
NO_SPEECH = "<|nospeech|>"
NO_TIMESTAMPS = "<|notimestamps|>"
_TASKS = ("<|translate|>", TRANSCRIBE, "<|startoflm|>", "<|startofprev|>", NO_SPEECH, NO_TIMESTAMPS)
_TIMES = tuple(f"<|{step * 0.02:.2f}|>" for step in range(1501))


def asset() -> Path:
    """Return the path of the pieces in the installed openai-whisper, without importing it."""
    spec = importlib.util.find_spec("whisper")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "assets" / "multilingual.tiktoken"


def build(path: Path) -> Tokenizer:
    """Return the tokenizer made of the ranked pieces at `path`."""
    lines = path.read_text().splitlines()
    ranks = {base64.b64decode(piece): int(rank) for piece, rank in map(str.split, lines)}
    letters = _letters()
    spelled = {"".join(letters[byte] for byte in piece): rank for piece, rank in ranks.items()}
    merges = []
    for piece in sorted(ranks, key=ranks.__getitem__):
        if len(piece) > 1:
            left, right = _halves(piece, ranks)
            merges.append(("".join(letters[byte] for byte in left), "".join(letters[byte] for byte in right)))
    tokenizer = Tokenizer(models.BPE(vocab=spelled, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    languages = [f"<|{code}|>" for code in LANGUAGES]
    marks = [END, START, *languages, *_TASKS]
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    tokenizer.add_tokens([AddedToken(time, special=False, normalized=False) for time in _TIMES])
    return tokenizer


def _halves(piece: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """Return the two pieces that `piece` was merged of: what merging its bytes by lower ranks alone leaves."""
    parts = [bytes([byte]) for byte in piece]
    while len(parts) > 2:
        pairs = [(ranks.get(left + right, len(ranks)), at) for at, (left, right) in enumerate(pairwise(parts))]
        at = min(pair for pair in pairs if pair[0] < ranks[piece])[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]


def _letters() -> dict[int, str]:
    """Return the letter that stands for each byte in byte-level BPE files (as in GPT-2's)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + number) for number, byte in enumerate(others)}
