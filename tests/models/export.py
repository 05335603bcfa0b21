"""Writes the trained network as faster-whisper loads it: CTranslate2 weights, tokenizer and preprocessor files."""

import json
import tempfile
from pathlib import Path

import torch
from ctranslate2.converters import TransformersConverter
from tokenizers import Tokenizer
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration, WhisperTokenizerFast

from services.common.languages import LANGUAGES
from tests.models import network, vocabulary
from tests.models.training import LONGEST_S, Said

# `encode_short`: it was trained with less than 30 s of padding, so it need not be given 30 s of it.
_PREPROCESSOR = {"feature_size": network.MELS, "chunk_length": LONGEST_S, "encode_short": True}


def export(model: network.Whisper, said: Said, tokenizer: Tokenizer, folder: Path) -> None:
    """Write `model` to `folder`, its weights in 8 bits."""
    start, end = tokenizer.token_to_id(vocabulary.START), tokenizer.token_to_id(vocabulary.END)
    config = WhisperConfig(
        vocab_size=tokenizer.get_vocab_size(),
        num_mel_bins=network.MELS,
        d_model=network.WIDTH,
        encoder_layers=network.ENCODER_LAYERS,
        decoder_layers=network.DECODER_LAYERS,
        encoder_attention_heads=network.HEADS,
        decoder_attention_heads=network.HEADS,
        encoder_ffn_dim=4 * network.WIDTH,
        decoder_ffn_dim=4 * network.WIDTH,
        max_source_positions=network.SOURCE_POSITIONS,
        max_target_positions=network.TARGET_POSITIONS,
        decoder_start_token_id=start,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    whole = WhisperForConditionalGeneration(config)
    whole.load_state_dict(
        {f"model.{name}": value for name, value in _state(model, said, config.vocab_size).items()}, strict=False
    )
    whole.tie_weights()
    whole.generation_config = GenerationConfig(
        decoder_start_token_id=start,
        eos_token_id=end,
        pad_token_id=end,
        suppress_tokens=[],
        begin_suppress_tokens=[*tokenizer.encode(" ", add_special_tokens=False).ids, end],
        lang_to_id={f"<|{code}|>": tokenizer.token_to_id(f"<|{code}|>") for code in LANGUAGES},
        alignment_heads=[list(head) for head in network.ALIGNMENT_HEADS],
        no_timestamps_token_id=tokenizer.token_to_id(vocabulary.NO_TIMESTAMPS),
    )
    with tempfile.TemporaryDirectory() as scratch:
        whole.save_pretrained(scratch)
        marks = {"bos_token": vocabulary.END, "eos_token": vocabulary.END, "unk_token": vocabulary.END}
        WhisperTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(scratch)
        TransformersConverter(scratch).convert(str(folder), quantization="int8", force=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "preprocessor_config.json").write_text(json.dumps(_PREPROCESSOR, indent=2) + "\n")


def _state(model: network.Whisper, said: Said, vocabulary_size: int) -> dict[str, torch.Tensor]:
    """Return the parameters with a row for every token."""
    state = dict(model.state_dict())
    rows = state["decoder.embed_tokens.weight"]
    whole = rows[-1].repeat(vocabulary_size, 1)
    whole[torch.tensor(said.ids)] = rows[:-1]
    state["decoder.embed_tokens.weight"] = whole
    return state
