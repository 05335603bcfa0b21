"""A tiny Qwen2 with random weights, and a tokenizer that is trained here: they show the plumbing, and no summaries.

The tokenizer is built as Qwen2.5's is: pieces of UTF-8 learned from text, the same borders of messages among its added
tokens, a chat template that says the same.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from services.summarize.engine import Style
from services.summarize.engines.qwen import prompts

BORDERS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
OTHERS = ("<|vision_start|>", "<|image_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>")
TEXTS = [
    prompts.SYSTEM,
    *(prompts.instruction(style, merges=merges) for style in Style for merges in (False, True)),
    *(prompts.part_instruction(style, merges=merges) for style in Style for merges in (False, True)),
    "Speaker 1: Okay, so thanks everyone for joining. Today we talk about the launch of the new mobile app.",
    "Speaker 2: The main problem is the login screen, about twenty percent of users drop out there.",
    "今天的会议讨论了新产品的价格。价格太高，客户不满意。我们决定下个月降价！大家都同意吗？",
    "会議では新しい製品の価格について話し合いました。お客様は不満です。",
    "الاجتماع كان طويلا جدا. هل نحن متفقون؟ السعر مرتفع جدا للعملاء.",
    "Сегодня мы обсудили запуск нового приложения. Цена слишком высокая.",
    "बैठक लंबी थी। कीमत बहुत ज़्यादा है। ग्राहक खुश नहीं हैं।",
    "😀 😅 👍🏽 👩‍👩‍👧 🎉 🇩🇪",
]
_TEMPLATE = """\
{%- if messages[0]['role'] == 'system' -%}
{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' -}}
{%- else -%}
{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud.<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message.role != 'system' -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


@dataclass(frozen=True)
class Size:
    """How large a model is; a vocabulary of 0 is the tokenizer's."""

    width: int
    inner: int
    layers: int
    heads: int
    key_heads: int
    vocabulary: int = 0


TINY = Size(64, 128, 2, 4, 2)


def save(folder: Path, size: Size = TINY, *, ends_every: int = 0, device: str = "cpu", dtype: str = "float32") -> Path:
    """Write a model to `folder`, as transformers does, and return it.

    It all but never ends by itself. With `ends_every` every so manieth token ends an answer, so they are about as long.
    """
    tokenizer = build_tokenizer()
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    config = Qwen2Config(
        # The real one has more rows than tokens, too.
        vocab_size=size.vocabulary or len(tokenizer) + 8,
        hidden_size=size.width,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.key_heads,
        max_position_embeddings=32_768,
        tie_word_embeddings=False,
        eos_token_id=end,
    )
    torch.manual_seed(1)
    with torch.device(device):
        model = Qwen2ForCausalLM(config).to(getattr(torch, dtype))
    ends = [end, *(range(len(BORDERS), config.vocab_size, ends_every) if ends_every else ())]
    model.generation_config = GenerationConfig(do_sample=True, temperature=0.7, eos_token_id=ends)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_tokenizer() -> Qwen2Tokenizer:
    """Return a tokenizer of about a thousand pieces."""
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learned.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learned.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=1_200, initial_alphabet=alphabet, show_progress=False)
    )
    data = json.loads(learned.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=data["vocab"],
        merges=[tuple(merge) for merge in data["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>", *OTHERS[:2]],
    )
    tokenizer.add_tokens(list(OTHERS[2:]))
    tokenizer.chat_template = _TEMPLATE
    return tokenizer
