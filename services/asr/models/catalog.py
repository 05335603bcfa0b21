"""The models that callers may name: the contract's, the embedded ones, and whatever folders of MODEL_DIR hold.

What their files are like is `store`'s business, which of them are loaded `keeper`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path

from services.asr.engines import EMBEDDED_ID
from services.asr.engines.whisper import UNTUNED, Tuning
from services.asr.models import weights, wheels
from services.asr.models.weights import Weights
from services.common.languages import LANGUAGES

WEIGHTS = "model.bin"
# Millions of numbers; small has 244, medium 769, large-v3-turbo 809, large-v3 1,550.
_VERY_FAST, _FAST = 300, 900
# The decoder of large-v3-turbo, which was never taught to translate: its layers and their width.
_TURBO = 4, 1280


class Speed(Enum):
    """How fast a model is beside the others."""

    STANDARD = auto()
    FAST = auto()
    VERY_FAST = auto()


@dataclass(frozen=True, slots=True)
class Model:
    """A model that callers may name.

    A Whisper model's files are in a `repository` of the hub, or in a `folder` of their own, or in `wheels` that are
    installed; the embedded model has neither. `tuning` is what was measured for it, `keeps_up_live` that on a CPU its
    interim text and segments come in time.
    """

    id: str
    name: str
    languages: Sequence[str]
    speed: Speed
    description: str
    repository: str = ""
    folder: Path | None = None
    wheels: tuple[str, ...] = ()
    translates: bool = False
    keeps_up_live: bool = False
    tuning: Tuning = UNTUNED

    @property
    def is_embedded(self) -> bool:
        """Whether it is the one that is no Whisper and comes with the software."""
        return not self.repository and self.folder is None

    @property
    def detects_languages(self) -> bool:
        """Whether it can find out which language is spoken."""
        return len(self.languages) > 1


_WHISPER = tuple(LANGUAGES)
EMBEDDED = Model(
    EMBEDDED_ID,
    "Moonshine Tiny",
    ("en",),
    Speed.VERY_FAST,
    "English; comes with the software, on CPUs.",
    keeps_up_live=True,
)
_CATALOG = (
    Model(
        "large-v3-turbo",
        "Whisper Large V3 Turbo",
        _WHISPER,
        Speed.FAST,
        "Nearly as accurate as large-v3, faster.",
        "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    ),
    Model(
        "large-v3",
        "Whisper Large V3",
        _WHISPER,
        Speed.STANDARD,
        "The most accurate.",
        "Systran/faster-whisper-large-v3",
        translates=True,
    ),
    Model(
        "medium",
        "Whisper Medium",
        _WHISPER,
        Speed.FAST,
        "A middle way between accuracy and size.",
        "Systran/faster-whisper-medium",
        translates=True,
    ),
    Model(
        "small",
        "Whisper Small",
        _WHISPER,
        Speed.VERY_FAST,
        "Small and multilingual.",
        "Systran/faster-whisper-small",
        translates=True,
    ),
    Model(
        "base",
        "Whisper Base",
        _WHISPER,
        Speed.VERY_FAST,
        "The smallest multilingual one; comes with the software.",
        "Systran/faster-whisper-base",
        wheels=wheels.WHEELS,
        translates=True,
        tuning=Tuning(least_window_s=10.0, max_no_speech=0.5, min_speech_logprob=-0.5),
    ),
    EMBEDDED,
)


def catalog(model_dir: Path | None) -> dict[str, Model]:
    """Return the models by id; a folder of `model_dir` with CTranslate2 weights is one, by its name.

    `model_dir` may itself be such a folder. One that is named as a model of the contract holds that model's files.
    Raises OSError where `model_dir` cannot be read.
    """
    models = {model.id: model for model in _CATALOG}
    for folder in _folders(model_dir) if model_dir else ():
        known = models.get(folder.name)
        models[folder.name] = _found(folder, known)
    return models


def _folders(model_dir: Path) -> list[Path]:
    if _is_model(model_dir):
        return [model_dir.resolve()]
    return sorted(folder for folder in model_dir.iterdir() if _is_model(folder))


def _is_model(folder: Path) -> bool:
    """Return whether a folder is meant to be a model; one that lacks a file is said to, when it is asked for.

    Other services' models may lie beside them: those for transformers, which have their weights in another form.
    """
    if (folder / WEIGHTS).is_file():
        return True
    return (folder / "config.json").is_file() and not any(folder.glob("*.safetensors"))


def _found(folder: Path, known: Model | None) -> Model:
    if known is not None and known.repository:
        return replace(known, folder=folder)
    try:
        found = weights.read(folder / WEIGHTS)
    except (OSError, ValueError):  # whoever asks for it will hear of it
        found = Weights(0)
    millions = found.numbers / 1e6
    speed = Speed.VERY_FAST if millions < _VERY_FAST else Speed.FAST if millions < _FAST else Speed.STANDARD
    languages = _WHISPER if found.is_multilingual else ("en",)
    return Model(
        folder.name,
        folder.name,
        languages,
        speed,
        "A model of this installation.",
        folder=folder,
        translates=found.is_multilingual and (found.decoder_layers, found.width) != _TURBO,
    )
