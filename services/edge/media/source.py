"""An upload as FFmpeg sees it, and the recordings in it: some files are several, one behind the other.

Most demuxers stop at the first one's end, or where the second one's audio is of another kind. Each is a file of its
own here. Nothing is believed but the magic numbers.
"""

import os
from collections.abc import Callable, Iterator

_OGG_HEAD = 27
_ASF_HEAD = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_FLAC_HEAD = b"fLaC\x00\x00\x00\x22"
_SCANNED_BYTES = 1 << 20
_MAX_FILES = 1_000
_MAX_STEPS = 4_000_000
"""A file of small pieces has no more of them than this; what lies behind is the last recording's."""


class NamelessFile:
    """A part of a descriptor's file, with neither a name to guess a format from nor a position shared with anyone."""

    def __init__(self, fd: int, start: int = 0, end: int | None = None) -> None:
        self._fd = fd
        self._start = start
        self.size = (os.lseek(fd, 0, os.SEEK_END) if end is None else end) - start
        self._position = 0

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, empty at the end."""
        data = self.read_at(self._position, size)
        self._position += len(data)
        return data

    def read_at(self, offset: int, size: int) -> bytes:
        """Return at most `size` bytes from `offset` on."""
        return os.pread(self._fd, max(0, min(size, self.size - offset)), self._start + offset)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move and return the position; a negative number for a place that does not exist."""
        target = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if target < 0:
            return -1
        self._position = target
        return target

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def recordings(self) -> list["NamelessFile"]:
        """Return the files that this one is made of, usually itself alone."""
        starts = [0]
        if walk := _walk_of(self.read_at(0, 16)):
            for start in walk(self):
                starts.append(start)
                if len(starts) == _MAX_FILES:
                    break
        ends = [*starts[1:], self.size]
        return [NamelessFile(self._fd, self._start + s, self._start + e) for s, e in zip(starts, ends, strict=True)]

    def missing_bytes(self) -> int:
        """Return how much shorter a RIFF file is than its header says, where that can be believed."""
        head = self.read_at(0, 8)
        claimed = int.from_bytes(head[4:], "little")
        # A recorder that was switched off leaves 0 or the largest number there is.
        return max(0, 8 + claimed - self.size) if head[:4] == b"RIFF" and claimed < 0xFFFF0000 else 0


def _walk_of(head: bytes) -> Callable[[NamelessFile], Iterator[int]] | None:
    """Choose what finds where the next recordings start, by how the file begins."""
    if head[:4] in (b"RIFF", b"FORM"):
        return _chunks
    if head[4:8] == b"ftyp":
        return _boxes
    return {b"OggS": _ogg_links, b"fLaC": _flac_heads, _ASF_HEAD[:4]: _asf_objects}.get(head[:4])


def _chunks(file: NamelessFile) -> Iterator[int]:
    """WAV, AVI, AIFF: a second file at the place where the first one says that it ends."""
    start = 0
    for _ in range(_MAX_STEPS):
        head = file.read_at(start, 8)
        end = start + 8 + int.from_bytes(head[4:], "big" if head[:4] == b"FORM" else "little")
        following = file.read_at(end, 13)
        if following[:1] == b"\0":
            following, end = following[1:], end + 1  # pieces of odd length are padded
        if following[:4] not in (b"RIFF", b"FORM"):
            return
        start = end
        if following[8:12] != b"AVIX":  # a long AVI goes on in such
            yield start


def _boxes(file: NamelessFile) -> Iterator[int]:
    """MP4, MOV: every box that begins a file."""
    at = 0
    for _ in range(_MAX_STEPS):
        head = file.read_at(at, 16)
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if size < 8:
            return
        if at and head[4:8] == b"ftyp":
            yield at
        at += size


def _asf_objects(file: NamelessFile) -> Iterator[int]:
    """WMA, WMV: every header object."""
    at = 0
    for _ in range(_MAX_STEPS):
        head = file.read_at(at, 24)
        size = int.from_bytes(head[16:24], "little")
        if size < 24:
            return
        if at and head[:16] == _ASF_HEAD:
            yield at
        at += size


def _ogg_links(file: NamelessFile) -> Iterator[int]:
    """Ogg: the first page that begins a stream after pages that do not."""
    at, is_begun = 0, False
    for _ in range(_MAX_STEPS):
        head = file.read_at(at, _OGG_HEAD + 255)
        if head[:4] != b"OggS" or len(head) < _OGG_HEAD:
            at = _find(file, b"OggS\0", at + 1)
            if at < 0:
                return
            continue
        begins = bool(head[5] & 2)
        if begins and is_begun:
            yield at
        is_begun = not begins
        segments = head[26]
        at += _OGG_HEAD + segments + sum(head[_OGG_HEAD : _OGG_HEAD + segments])


def _flac_heads(file: NamelessFile) -> Iterator[int]:
    """FLAC: frames do not tell where they end, so look for the next header."""
    at = 0
    while (at := _find(file, _FLAC_HEAD, at + 1)) > 0:
        yield at


def _find(file: NamelessFile, wanted: bytes, start: int) -> int:
    """Return where `wanted` is next, -1 where it is not any more."""
    while block := file.read_at(start, _SCANNED_BYTES):
        found = block.find(wanted)
        if found >= 0:
            return start + found
        if len(block) < _SCANNED_BYTES:
            return -1
        start += len(block) - len(wanted) + 1
    return -1
