"""The models that callers may name: the contract's, the embedded one, and whatever folders of MODEL_DIR hold.

What their files are like is `store`'s business, which of them are loaded `keeper`'s.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from services.asr.engines import EMBEDDED_ID
from services.common.languages import LANGUAGES

WEIGHTS = "model.bin"
_MIB = 1024 * 1024
_VERY_FAST_MIB, _FAST_MIB = 600, 1700


class Speed(Enum):
    """How fast a model is beside the others."""

    STANDARD = auto()
    FAST = auto()
    VERY_FAST = auto()


@dataclass(frozen=True, slots=True)
class Model:
    """A model that callers may name.

    A Whisper model's files are in a `repository` of the hub, or in a `folder` of their own; the embedded model has
    neither.
    """

    id: str
    name: str
    languages: Sequence[str]
    speed: Speed
    description: str
    repository: str = ""
    folder: Path | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether it comes with the software."""
        return not self.repository and self.folder is None


_WHISPER = tuple(LANGUAGES)
EMBEDDED = Model(EMBEDDED_ID, "Moonshine Tiny", ("en",), Speed.VERY_FAST, "English; comes with the software, on CPUs.")
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
    ),
    Model(
        "medium",
        "Whisper Medium",
        _WHISPER,
        Speed.FAST,
        "A middle way between accuracy and size.",
        "Systran/faster-whisper-medium",
    ),
    Model(
        "small", "Whisper Small", _WHISPER, Speed.VERY_FAST, "Small and multilingual.", "Systran/faster-whisper-small"
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
    if (model_dir / WEIGHTS).is_file():
        return [model_dir.resolve()]
    return sorted(folder for folder in model_dir.iterdir() if (folder / WEIGHTS).is_file())


def _found(folder: Path, known: Model | None) -> Model:
    if known is not None and known.repository:
        return Model(known.id, known.name, known.languages, known.speed, known.description, known.repository, folder)
    size_mib = (folder / WEIGHTS).stat().st_size / _MIB
    speed = Speed.VERY_FAST if size_mib < _VERY_FAST_MIB else Speed.FAST if size_mib < _FAST_MIB else Speed.STANDARD
    languages = _WHISPER if _is_multilingual(folder) else ("en",)
    return Model(folder.name, folder.name, languages, speed, "A model of this installation.", folder=folder)


def _is_multilingual(folder: Path) -> bool:
    """Return whether the model has marks for languages; where its config does not tell, loading finds it out."""
    try:
        return bool(json.loads((folder / "config.json").read_text()).get("lang_ids", True))
    except (OSError, ValueError, AttributeError):
        return True
