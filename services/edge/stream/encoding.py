"""What audio a live session takes, raw PCM, and how anything else is recognized by what is said of it or by its bytes.

Pure. What could be PCM is never refused: a signature counts only where PCM cannot look like it.
"""

import re
import struct
from collections.abc import Mapping
from itertools import pairwise

from services.common.audio import SAMPLE_BYTES, SAMPLE_RATE
from services.common.errors import Reason, SttError
from services.edge.errors import invalid

_WANTED = "send raw PCM, signed 16-bit little-endian, 16 kHz, mono"
_PCM_NAMES = frozenset({"pcm", "pcm16", "pcms16le", "s16le", "s16", "int16", "linear16", "l16", "lpcm", "raw"})

_SIGNATURE_BYTES = 12
_SIGNATURES = {
    "WebM or Matroska": re.compile(rb"\x1a\x45\xdf\xa3"),
    "Ogg": re.compile(rb"OggS\x00\x02"),
    "FLAC": re.compile(rb"fLaC[\x00\x80]\x00\x00\x22"),
    "MP3": re.compile(rb"ID3[\x02-\x04]\x00.[\x00-\x7f]{4}", re.DOTALL),
    "MP4": re.compile(rb"\x00\x00[\x00-\x03].ftyp", re.DOTALL),
}
_WAV = re.compile(rb"RIFF.{4}WAVE", re.DOTALL)
_WAV_CHUNK = struct.Struct("<4sI")
_WAV_FORM = struct.Struct("<HHIIHH")
_WAV_SUBFORM_BYTES = 24
_WAV_PCM, _WAV_EXTENSIBLE = 1, 0xFFFE
_WAV_ENCODINGS = {_WAV_PCM: "PCM", 3: "floating point", 6: "A-law", 7: "mu-law"}
_MAX_WAV_CHUNKS = 16
_MAX_WAV_HEADER_BYTES = 64 * 1024

_MP3_FRAMES = 3
_MP3_KBITS = {
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Of layer III, by whether it is MPEG 1."""
_MP3_RATES = (44_100, 48_000, 32_000)

_FLOAT = struct.Struct("<HH")
_LEAST_FLOATS, _MOST_FLOATS = 64, 1_024


def take_format(given: Mapping[str, object]) -> dict[str, object]:
    """Return a config or a query without what it says of the audio's format; SttError where that is not ours."""
    rest = dict(given)
    encoding = rest.pop("encoding", None)
    name = re.sub(r"[^a-z0-9]", "", str(encoding).lower().removeprefix("audio/"))
    if encoding not in (None, "") and name not in _PCM_NAMES:
        raise invalid(f"encoding is {str(encoding)[:40]!r}: {_WANTED}.")
    for field, wanted in (("sample_rate", SAMPLE_RATE), ("channels", 1)):
        value = rest.pop(field, None)
        if value not in (None, "", wanted, str(wanted)):
            raise invalid(f"{field} is {str(value)[:40]!r}: {_WANTED}.")
    return rest


class Intake:
    """Lets a session's PCM through, but for a WAV header; the little that it takes to tell PCM is kept back first."""

    def __init__(self) -> None:
        self._held = b""
        self._has_begun = False
        self._is_pcm = False

    def push(self, data: bytes) -> bytes:
        """Return the audio that may be heard with `data`; SttError where it is not PCM as it is wanted."""
        if self._is_pcm:
            return data
        self._held += data
        if not self._has_begun:
            start = _start_of_pcm(self._held)
            if start is None:
                return b""
            self._has_begun = True
            self._is_pcm = start > 0
            self._held = self._held[start:]
        # Silence is the same in both.
        silent_bytes = len(self._held) - len(self._held.lstrip(b"\0"))
        silent_bytes -= silent_bytes % _FLOAT.size
        is_float = not self._is_pcm and _are_floats(self._held[silent_bytes:])
        if is_float:
            raise _unsupported("32-bit floating point samples")
        if is_float is None:
            silence, self._held = self._held[:silent_bytes], self._held[silent_bytes:]
            return silence
        self._is_pcm = True
        return self.rest()

    def rest(self) -> bytes:
        """Return what is kept back when no more comes."""
        pcm, self._held = self._held, b""
        return b"" if _WAV.match(pcm) else pcm


def _start_of_pcm(head: bytes) -> int | None:
    """Return how long the WAV header is, 0 without one, None where it takes more bytes to tell; SttError for others."""
    if len(head) < _SIGNATURE_BYTES:
        return None
    for name, signature in _SIGNATURES.items():
        if signature.match(head):
            raise _unsupported(name)
    if _WAV.match(head):
        return _start_of_wav(head)
    is_mp3 = _is_mp3(head)
    if is_mp3:
        raise _unsupported("MP3")
    return None if is_mp3 is None else 0


def _start_of_wav(head: bytes) -> int | None:
    """Return where a WAV's samples begin, None where its header goes on."""
    position = _SIGNATURE_BYTES
    has_format = False
    for _ in range(_MAX_WAV_CHUNKS):
        if len(head) < position + _WAV_CHUNK.size:
            return None
        chunk, size_bytes = _WAV_CHUNK.unpack_from(head, position)
        position += _WAV_CHUNK.size
        if chunk == b"data" and has_format:
            return position
        end = position + size_bytes + size_bytes % 2
        if end > _MAX_WAV_HEADER_BYTES:
            break
        if len(head) < end:
            return None
        if chunk == b"fmt ":
            has_format = True
            _check_wav(head[position:end])
        position = end
    raise _unsupported("a WAV file whose samples do not follow its header")


def _check_wav(form: bytes) -> None:
    if len(form) < _WAV_FORM.size:
        raise _unsupported("a WAV file that does not say its format")
    tag, channels, rate, _, _, bits = _WAV_FORM.unpack_from(form)
    if tag == _WAV_EXTENSIBLE and len(form) >= _WAV_SUBFORM_BYTES + 2:
        tag = int.from_bytes(form[_WAV_SUBFORM_BYTES : _WAV_SUBFORM_BYTES + 2], "little")
    if (tag, channels, rate, bits) != (_WAV_PCM, 1, SAMPLE_RATE, 8 * SAMPLE_BYTES):
        encoding = _WAV_ENCODINGS.get(tag, f"encoding {tag:#06x}")
        many = "" if channels == 1 else "s"
        raise _unsupported(f"a WAV file of {bits}-bit {encoding}, {rate:,} Hz, {channels} channel{many}")


def _is_mp3(head: bytes) -> bool | None:
    """Say whether MP3 frames follow each other that are not the same; None where it takes more bytes to tell."""
    frames: list[bytes] = []
    while len(frames) < _MP3_FRAMES:
        if len(head) < 4:
            return None
        size_bytes = _mp3_frame_bytes(head)
        if not size_bytes or (frames and head[:2] != frames[0][:2]):
            return False
        frames.append(head[:size_bytes])
        head = head[size_bytes:]
    return any(frame[4:] != after[4:] for frame, after in pairwise(frames))


def _mp3_frame_bytes(header: bytes) -> int:
    """Return how long the MPEG audio frame of layer III is that begins like this, 0 where none does."""
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    kbits, rate = header[2] >> 4, header[2] >> 2 & 3
    if header[0] != 0xFF or header[1] < 0xE0 or version == 1 or layer != 1 or kbits in (0, 15) or rate == 3:
        return 0
    is_mpeg_1 = version == 3
    rate_hz = _MP3_RATES[rate] >> (0 if is_mpeg_1 else 1 if version == 2 else 2)
    return (144 if is_mpeg_1 else 72) * 1000 * _MP3_KBITS[is_mpeg_1][kbits - 1] // rate_hz + (header[2] >> 1 & 1)


def _are_floats(window: bytes) -> bool | None:
    """Say whether these are 32-bit floats up to 2 for sure; None where it takes more bytes to tell.

    Their upper halves are sign, exponent and a few bits: as PCM16 every second sample would be loud and never near
    zero, on both sides of it, while those in between are something else.
    """
    floats = [pair for pair in _FLOAT.iter_unpack(window[: len(window) // _FLOAT.size * _FLOAT.size]) if any(pair)]
    undecided = None if len(window) < _MOST_FLOATS * _FLOAT.size else False
    if len(floats) < _LEAST_FLOATS:
        return undecided
    fitting = [upper for _, upper in floats if _is_upper(upper)]
    if len(fitting) < 0.98 * len(floats) or sum(_is_upper(lower) for lower, _ in floats) > 0.5 * len(floats):
        return False
    negative = sum(upper >> 15 for upper in fitting)
    if min(negative, len(fitting) - negative) >= 0.05 * len(fitting):
        return True
    return undecided


def _is_upper(half: int) -> bool:
    """Say whether this may be the upper half of a float of size 2^-31 to 2."""
    return 0x3000 <= half & 0x7FFF < 0x4000


def _unsupported(what: str) -> SttError:
    return SttError(Reason.UNSUPPORTED_MEDIA, f"The audio is {what}: {_WANTED}.")
