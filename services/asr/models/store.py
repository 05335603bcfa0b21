"""Where a model's files are, whether they are whole, and how they come from a hub.

They are kept in huggingface_hub's cache (HF_HOME) in its layout, so that other programs share them: `blobs` named by
their content, `snapshots` of links to them by commit, `refs` to the newest commit.
"""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # documented, not marked

from services.asr.models import hub, weights
from services.asr.models.catalog import WEIGHTS, Model

_MIB = 1024 * 1024
_PREPROCESSOR = "preprocessor_config.json"
_REQUIRED = ("config.json", "tokenizer.json", WEIGHTS)
_VOCABULARIES = ("vocabulary.json", "vocabulary.txt")
# The bands of sound where there is no preprocessor_config.json.
_MELS = 80
_REFERENCE = Path("refs", "main")


def folder_of(model: Model) -> Path | None:
    """Return the folder of a model's files, whole or not; None where there is none."""
    if model.folder is not None or not model.repository:
        return model.folder
    home = _home(model)
    try:
        folder = home / "snapshots" / (home / _REFERENCE).read_text().strip()
    except OSError:
        return None
    return folder if folder.is_dir() else None


def find(model: Model) -> Path | None:
    """Return the folder of a model's files if all are here and look whole; `verify` looks closer."""
    folder = folder_of(model)
    return None if folder is None or problem(folder) else folder


def found(model: Model) -> Path:
    """Return the folder of a model's files. Raises FileNotFoundError, ValueError: not here, not whole."""
    folder = folder_of(model)
    if folder is None:
        raise FileNotFoundError(f"The files of {model.id} are not here.")
    if reason := problem(folder):
        raise ValueError(f"{folder}: {reason}")
    return folder


def problem(folder: Path) -> str | None:
    """Return, in a sentence, why the model in a folder cannot be loaded, as far as a quick look shows it."""
    try:
        for name in _REQUIRED:
            if not (folder / name).is_file():
                return f"There is no {name}."
        if not any((folder / name).is_file() for name in _VOCABULARIES):
            return f"There is no {' or '.join(_VOCABULARIES)}."
        documents = {
            name: _document(folder / name) for name in hub.FILES if name.endswith(".json") and (folder / name).is_file()
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
    """Return what is wrong with a model's files, a sentence each; reads all that came from a hub."""
    folder = folder_of(model)
    if folder is None:
        return [] if model.is_embedded else ["Its files are not here."]
    if reason := problem(folder):
        return [reason]
    files = [folder / name for name in hub.FILES if (folder / name).is_symlink()]
    # One link only: the blob may be a link itself, to one that repositories share, whose name is another hash.
    return [f"{file.name} is damaged." for file in files if _is_damaged(file, file.readlink().name)]


def pull(model: Model) -> Path:
    """Bring the files of a model with a repository here, and anew what is damaged; nothing where all are whole.

    Returns their folder. Shows on a terminal how far it is. However it ends, the next pull goes on from there.
    Raises HubError, a sentence.
    """
    folder = folder_of(model)
    if folder is not None and not verify(model):
        return folder
    home = _home(model)
    try:
        return _pull(model, home)
    except hub.HubError:
        raise
    except OSError as error:
        raise hub.HubError(f"{error.filename or home} cannot be written: {error.strerror}.") from error


def _pull(model: Model, home: Path) -> Path:
    listing = hub.listing(model.repository)
    folder = home / "snapshots" / listing.commit
    for file in listing.files:
        blob = home / "blobs" / file.tag
        _bring(file, blob)
        link = folder / file.name
        staged = _staged(link)
        staged.symlink_to(os.path.relpath(blob, folder))
        staged.replace(link)
    if reason := problem(folder):
        raise hub.HubError(f"{model.repository} is not a model that can be loaded: {reason}")
    # Last: what is found is all here.
    staged = _staged(home / _REFERENCE)
    staged.write_text(listing.commit)
    staged.replace(home / _REFERENCE)
    return folder


def _bring(file: hub.RemoteFile, blob: Path) -> None:
    """Have the file's content at `blob`, whole."""
    lock = Path(constants.HF_HUB_CACHE, ".locks", blob.parents[1].name, f"{file.tag}.lock")
    for folder in (lock.parent, blob.parent):
        folder.mkdir(parents=True, exist_ok=True)
    # huggingface_hub's own lock: another process may pull the same.
    with WeakFileLock(lock):
        if blob.exists() and not _is_damaged(blob, file.tag):
            return
        part = blob.with_name(f"{file.tag}.incomplete")
        missing_bytes = file.size_bytes - (part.stat().st_size if part.exists() else 0)
        if missing_bytes > shutil.disk_usage(blob.parent).free:
            raise hub.HubError(f"There is no room for another {missing_bytes / _MIB:.0f} MiB in {blob.parent}.")
        hub.fetch(file, part)
        if part.stat().st_size != file.size_bytes or _is_damaged(part, file.tag):
            part.unlink()
            raise hub.HubError(f"{file.name} came damaged from {constants.ENDPOINT} and was thrown away; pull again.")
        part.replace(blob)


def _is_damaged(path: Path, tag: str) -> bool:
    """Return whether a file's content is another than `tag` says; some mirrors' tags say nothing."""
    sha256 = hashlib.sha256()
    # Small files are tagged as git does it, by some mirrors plainly.
    git = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    plain = hashlib.sha1(usedforsecurity=False)
    hashes = {64: [sha256], 40: [git, plain]}.get(len(tag), []) if re.fullmatch("[0-9a-f]+", tag) else []
    with path.open("rb") as content:
        while hashes and (block := content.read(_MIB)):
            for each in hashes:
                each.update(block)
    return bool(hashes) and tag not in [each.hexdigest() for each in hashes]


def _document(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        raise ValueError(f"{path.name} is not JSON.") from None


def _home(model: Model) -> Path:
    return Path(constants.HF_HUB_CACHE, f"models--{model.repository.replace('/', '--')}")


def _staged(path: Path) -> Path:
    """Return where to make what is to replace `path` at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.unlink(missing_ok=True)
    return staged
