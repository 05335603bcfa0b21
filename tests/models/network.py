"""A Whisper network in torch, small enough to be trained on two cores, with the losses that help it along.

Parameters have the names of transformers' `WhisperForConditionalGeneration`, which carries them to CTranslate2.
Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022.
"""

import math
from dataclasses import dataclass

import torch
from faster_whisper.feature_extractor import FeatureExtractor
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 128
HEADS = 4
ENCODER_LAYERS = 4
DECODER_LAYERS = 2
MELS = 80
SOURCE_POSITIONS = 1500
TARGET_POSITIONS = 448
# The heads of the last decoder layer that learn to look where each word is said: word times come from them.
ALIGNMENT_HEADS = ((DECODER_LAYERS - 1, 0), (DECODER_LAYERS - 1, 1))
FRAME = 320


@dataclass(frozen=True, slots=True)
class Batch:
    """B utterances of T encoder frames and L tokens.

    `features` (B, 80, 2T), `tokens` (B, L) what the decoder is given, `targets` (B, L) what it shall say (-100: nothing
    is asked), `frames` (B, T) the word said in each frame, `ordinals` (B, T) the how manieth it is (0: nobody speaks),
    `focus` (B, L, T) where each target is said, and `focused` (B, L) whether it is said anywhere.
    """

    features: Tensor
    tokens: Tensor
    targets: Tensor
    frames: Tensor
    ordinals: Tensor
    focus: Tensor
    focused: Tensor


class Attention(nn.Module):
    """Multi-head attention as in Whisper: the key has no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(WIDTH, WIDTH)
        self.k_proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.v_proj = nn.Linear(WIDTH, WIDTH)
        self.out_proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, context: Tensor, *, causal: bool = False) -> Tensor:
        """Return what `x` (B, L, width) takes from `context` (B, T, width)."""
        q, k, v = self._heads(self.q_proj(x)), self._heads(self.k_proj(context)), self._heads(self.v_proj(context))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def weights(self, x: Tensor, context: Tensor) -> Tensor:
        """Return the logarithm of the attention (B, heads, L, T)."""
        q, k = self._heads(self.q_proj(x)), self._heads(self.k_proj(context))
        return functional.log_softmax(q @ k.transpose(2, 3) / math.sqrt(WIDTH // HEADS), -1)

    @staticmethod
    def _heads(x: Tensor) -> Tensor:
        return x.unflatten(2, (HEADS, -1)).transpose(1, 2)


class Layer(nn.Module):
    """One layer of the encoder, or of the decoder where it has a `context` to look at."""

    def __init__(self, *, decoder: bool) -> None:
        super().__init__()
        self.self_attn = Attention()
        self.self_attn_layer_norm = nn.LayerNorm(WIDTH)
        if decoder:
            self.encoder_attn = Attention()
            self.encoder_attn_layer_norm = nn.LayerNorm(WIDTH)
        self.fc1 = nn.Linear(WIDTH, 4 * WIDTH)
        self.fc2 = nn.Linear(4 * WIDTH, WIDTH)
        self.final_layer_norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor, context: Tensor | None = None, *, look: bool = False) -> tuple[Tensor, Tensor | None]:
        """Return the layer's output and, for `look`, the logarithm of its attention to `context`."""
        normal = self.self_attn_layer_norm(x)
        x = x + self.self_attn(normal, normal, causal=context is not None)
        looks = None
        if context is not None:
            normal = self.encoder_attn_layer_norm(x)
            looks = self.encoder_attn.weights(normal, context) if look else None
            x = x + self.encoder_attn(normal, context)
        return x + self.fc2(functional.gelu(self.fc1(self.final_layer_norm(x)))), looks


class Encoder(nn.Module):
    """Features to states, one for 20 ms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(MELS, WIDTH, 3, padding=1)
        self.conv2 = nn.Conv1d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(SOURCE_POSITIONS, WIDTH, _freeze=True, _weight=_sinusoids())
        self.layers = nn.ModuleList(Layer(decoder=False) for _ in range(ENCODER_LAYERS))
        self.layer_norm = nn.LayerNorm(WIDTH)

    def forward(self, features: Tensor) -> Tensor:
        """Return the states (B, T, width) of `features` (B, 80, 2T)."""
        x = functional.gelu(self.conv2(functional.gelu(self.conv1(features)))).transpose(1, 2)
        x = x + self.embed_positions.weight[: x.shape[1]]
        for layer in self.layers:
            x, _ = layer(x)
        return self.layer_norm(x)


class Decoder(nn.Module):
    """Tokens so far to the next token's state."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        # The last row stands for every token that is never said.
        self.embed_tokens = nn.Embedding(vocabulary + 1, WIDTH)
        self.embed_positions = nn.Embedding(TARGET_POSITIONS, WIDTH)
        self.layers = nn.ModuleList(Layer(decoder=True) for _ in range(DECODER_LAYERS))
        self.layer_norm = nn.LayerNorm(WIDTH)

    def forward(self, tokens: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states (B, L, width) and the logarithm of the last layer's attention (B, heads, L, T)."""
        x = self.embed_tokens(tokens) + self.embed_positions.weight[: tokens.shape[1]]
        looks = None
        for number, layer in enumerate(self.layers):
            x, looks = layer(x, context, look=number == DECODER_LAYERS - 1)
        assert looks is not None
        return self.layer_norm(x), looks


class Whisper(nn.Module):
    """Encoder and decoder; what they say is compared with the embeddings of the tokens.

    Of Whisper's 51,865 tokens it is trained with the `vocabulary` that it may say; the `unsaid` rest shares one row.
    Rows that begin alike and are never right stay alike, so this is the full softmax, for a tenth of its work.
    """

    def __init__(self, vocabulary: int, unsaid: int) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder(vocabulary)
        self.unsaid_log = math.log(unsaid)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1 and parameter.requires_grad and "conv" not in name:
                nn.init.normal_(parameter, std=0.02 if "embed" in name else WIDTH**-0.5)

    def logits(self, said: Tensor) -> Tensor:
        """Return the scores (B, L, vocabulary + 1) of decoder states; the last is of all unsaid tokens together."""
        scores = said @ self.decoder.embed_tokens.weight.T
        return torch.cat([scores[..., :-1], scores[..., -1:] + self.unsaid_log], -1)


class Helpers(nn.Module):
    """Heads on the encoder that are only there to train it: which word, and the how manieth, is said in each frame."""

    def __init__(self, words: int, most: int) -> None:
        super().__init__()
        self.word = nn.Linear(WIDTH, words + 1)
        self.ordinal = nn.Linear(WIDTH, most + 1)


def losses(model: Whisper, helpers: Helpers, batch: Batch) -> dict[str, Tensor]:
    """Return the losses: of the text, of the words and ordinals by frame, and of where the alignment heads look."""
    states = model.encoder(batch.features)
    said, looks = model.decoder(batch.tokens, states)
    logits = model.logits(said)
    heads = [head for _, head in ALIGNMENT_HEADS]
    on_word = torch.logsumexp(looks[:, heads] + batch.focus.clamp_min(1e-9).log()[:, None], -1)
    return {
        "text": functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=-100),
        "word": functional.cross_entropy(helpers.word(states).flatten(0, 1), batch.frames.flatten()),
        "ordinal": functional.cross_entropy(helpers.ordinal(states).flatten(0, 1), batch.ordinals.flatten()),
        "look": -(on_word * batch.focused[:, None]).sum() / (len(heads) * batch.focused.sum().clamp_min(1)),
    }


def log_mel(audio: Tensor, *, colour: Tensor | None = None) -> Tensor:
    """Return the features (B, 80, frames) of audio (B, samples) as faster-whisper makes them."""
    padded = functional.pad(functional.pad(audio, (0, 160))[:, None], (200, 200), mode="reflect")[:, 0]
    spectra = torch.stft(padded, 400, 160, window=torch.hann_window(400), center=False, return_complex=True)
    power = spectra[..., :-1].abs() ** 2
    mel = (_MEL_FILTERS @ power).clamp_min(1e-10).log10()
    if colour is not None:
        mel = mel + colour[:, :, None]
    mel = torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8)
    return ((mel + 4) / 4)[..., : audio.shape[1] // 160]


_MEL_FILTERS = torch.from_numpy(FeatureExtractor(feature_size=MELS).mel_filters)


def _sinusoids() -> Tensor:
    steps = torch.exp(-math.log(10_000) / (WIDTH // 2 - 1) * torch.arange(WIDTH // 2))
    angles = torch.arange(SOURCE_POSITIONS)[:, None] * steps[None]
    return torch.cat([angles.sin(), angles.cos()], 1)
