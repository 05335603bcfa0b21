"""Where a recognition model's files are, and whether they are whole; how they come from a hub is `hub_cache`'s."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

from services.asr.models import weights, wheels
from services.asr.models.catalog import WEIGHTS, Model
from services.common import hub_cache

_MIB = 1024 * 1024
_PREPROCESSOR = "preprocessor_config.json"
_REQUIRED = ("config.json", "tokenizer.json", WEIGHTS)
_VOCABULARIES = ("vocabulary.json", "vocabulary.txt")
FILES = ("config.json", _PREPROCESSOR, "tokenizer.json", *_VOCABULARIES, WEIGHTS)
"""What faster-whisper reads."""
# The bands of sound where there is no preprocessor_config.json.
_MELS = 80


def folder_of(model: Model) -> Path | None:
    """Return the folder of a model's files, whole or not; None where there is none."""
    if model.folder is not None or not model.repository:
        return model.folder
    return hub_cache.snapshot(model.repository)


def find(model: Model) -> Path | None:
    """Return the folder of a model's files if all are here and look whole; `verify` looks closer."""
    folder = folder_of(model)
    return None if folder is None or problem(folder) else folder


def is_here(model: Model) -> bool:
    """Return whether a model's files are here; those of a folder that was given are what they are."""
    return model.folder is not None or find(model) is not None or comes_in_wheels(model)


def comes_in_wheels(model: Model) -> bool:
    """Return whether a model's files are those of installed wheels: no folder of them goes first."""
    return bool(model.wheels) and model.folder is None and find(model) is None and wheels.are_here()


def files(model: Model) -> Path | dict[str, bytes]:
    """Return the folder of a model's files, or their content by name where they are in wheels.

    Raises FileNotFoundError, ValueError: not here, not whole.
    """
    if comes_in_wheels(model):
        return wheels.read()
    folder = folder_of(model)
    if folder is None:
        raise FileNotFoundError(f"The files of {model.id} are not here.")
    if reason := problem(folder):
        raise ValueError(f"{folder}: {reason}")
    return folder


def weights_of(model: Model) -> weights.Weights:
    """Return what a model's weights say of themselves. Raises FileNotFoundError, ValueError: not here, not whole."""
    found = files(model)
    if isinstance(found, Path):
        return weights.read(found / WEIGHTS)
    return weights.parse(BytesIO(found[WEIGHTS]), WEIGHTS)


def problem(folder: Path) -> str | None:
    """Return, in a sentence, why the model in a folder cannot be loaded, as far as a quick look shows it."""
    try:
        for name in _REQUIRED:
            if not (folder / name).is_file():
                return f"There is no {name}."
        if not any((folder / name).is_file() for name in _VOCABULARIES):
            return f"There is no {' or '.join(_VOCABULARIES)}."
        documents = {
            name: _document(folder / name) for name in FILES if name.endswith(".json") and (folder / name).is_file()
        }
        mels = weights.read(folder / WEIGHTS).mels
    except OSError as error:
        return f"{error.filename or folder} cannot be read: {error.strerror}."
    except ValueError as error:
        return str(error)
    preprocessor = documents.get(_PREPROCESSOR)
    given = preprocessor.get("feature_size", _MELS) if isinstance(preprocessor, dict) else _MELS
    if mels and given != mels:
        return f"There is no {_PREPROCESSOR} with a feature_size of {mels}, which {WEIGHTS} needs."
    return None


def weights_mib(folder: Path) -> float:
    """Return the size of a model's weights as they are stored. Raises OSError."""
    return (folder / WEIGHTS).stat().st_size / _MIB


def verify(model: Model) -> list[str]:
    """Return what is wrong with a model's files, a sentence each; reads all that came from a hub or in wheels."""
    folder = folder_of(model)
    if model.wheels and (folder is None or comes_in_wheels(model)):
        try:
            wheels.read()
        except (FileNotFoundError, ValueError) as error:
            return [str(error)]
        return []
    if folder is None:
        return [] if model.is_embedded else ["Its files are not here."]
    if reason := problem(folder):
        return [reason]
    return [f"{name} is damaged." for name in hub_cache.damaged(folder)]


def pull(model: Model) -> Path:
    """Bring the files of a model with a repository here, and anew what is damaged; nothing where all are whole.

    Returns their folder. Raises HubError. See `hub_cache.pull`.
    """
    folder = folder_of(model)
    if folder is not None and not verify(model):
        return folder
    return hub_cache.pull(model.repository, FILES, problem)


def _document(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        raise ValueError(f"{path.name} is not JSON.") from None
