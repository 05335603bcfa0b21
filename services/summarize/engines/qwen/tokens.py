"""Between text and tokens: a transcript becomes data, and what frames it the chat that the model was trained on."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.summarize.engines.qwen.prompts import CLOSING, OPENING, SYSTEM

_PLACE = "{the transcript}"
# Also one with a letter that looks like a Latin one: no other tag that is closed has such.
_FORGED_TAG = re.compile(r"<(?=\s*/?\s*transcript|\s*/[^<>\s]{0,20}[^\x00-\x7f])", re.IGNORECASE)
_VARIATION = re.compile("[\u180b-\u180d\ufe00-\ufe0f\U000e0100-\U000e01ef]")


@dataclass(frozen=True, slots=True)
class Frame:
    """The tokens before and behind a transcript."""

    head: tuple[int, ...]
    tail: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many they are."""
        return len(self.head) + len(self.tail)

    def around(self, data: Sequence[int]) -> list[int]:
        """Return the whole prompt."""
        return [*self.head, *data, *self.tail]


class ChatTokenizer:
    """A tokenizer of transformers, with a chat template, that keeps what is data from being taken for a command."""

    def __init__(self, tokenizer: Any) -> None:
        if not tokenizer.chat_template:
            raise ValueError("The tokenizer has no chat template.")
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        self.added = frozenset(tokenizer.added_tokens_decoder)
        """Tokens that no text may become: the borders of messages, tools, images ..."""
        spelled = sorted((token.content for token in tokenizer.added_tokens_decoder.values()), key=len, reverse=True)
        self._spelled = re.compile("|".join(map(re.escape, spelled)) or "(?!)")
        self.end_token: int | None = tokenizer.eos_token_id

    def frame(self, instruction: str) -> Frame:
        """Return what stands around a transcript when the model is to do this with it."""
        messages = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": f"{OPENING}\n{_PLACE}{CLOSING}\n\n{instruction}"},
        ]
        chat = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        head, found, tail = chat.partition(_PLACE)
        if not found:
            raise ValueError("The chat template leaves out what the user says.")
        return Frame(*(tuple(self._backend.encode(text, add_special_tokens=False).ids) for text in (head, tail)))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text as mere text, whatever it spells."""
        encodings = self._backend.encode_batch_fast([self._harmless(text) for text in texts], add_special_tokens=False)
        # Whatever else may come to be spelled is left out.
        return [[token for token in encoding.ids if token not in self.added] for encoding in encodings]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens; those that are none have none."""
        return str(self._backend.decode([token for token in tokens if token not in self.added]))

    def _harmless(self, text: str) -> str:
        """Put a space into what spells a token that is not text, and spoil the tags that a transcript stands in.

        A text that does so in disguise is read without it.
        """
        if not text.isascii():
            folded = _fold(text)
            if self._spelled.search(folded) or _FORGED_TAG.search(folded):
                text = folded
        text = self._spelled.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)
        return _FORGED_TAG.sub("‹", text)


def _fold(text: str) -> str:
    """Return a text as it looks: without what nobody sees, and in the usual forms of its characters."""
    seen = "".join(char for char in text if char.isascii() or unicodedata.category(char) != "Cf")
    return unicodedata.normalize("NFKC", _VARIATION.sub("", seen))
