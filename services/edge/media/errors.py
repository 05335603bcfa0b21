"""What can be wrong with an uploaded file, in a sentence its sender can act on. The HTTP status is chosen elsewhere."""

import re

from services.common.errors import Reason, SttError

_FORMATS = "mp3, wav, flac, ogg, m4a, aac, opus, wma, mp4, webm, mkv, avi, mov, wmv, mpg, mpeg"


def codec_name(codec: str) -> str:
    """Return what to call a codec that the decoder named, which may not be trusted."""
    return re.sub(r"[^\w .,()/+-]", "", codec, flags=re.ASCII)[:80].strip() or "This kind of"


class SpoolFullError(SttError):
    """The disk space for recordings in flight is taken; it comes back as other requests end."""

    def __init__(self) -> None:
        super().__init__(
            Reason.OVERLOADED, "The server's space for recordings is full; try again in a moment.", retry_after_s=10
        )


class MediaError(SttError):
    """The file itself is at fault: sending it again will not help."""


class EmptyFileError(MediaError):
    """The file has no bytes."""

    def __init__(self) -> None:
        super().__init__(Reason.UNSUPPORTED_MEDIA, "The file is empty.")


class UnsupportedMediaError(MediaError):
    """The content is no container that is accepted."""

    def __init__(self) -> None:
        super().__init__(
            Reason.UNSUPPORTED_MEDIA,
            f"The file is damaged, or not audio or video in a supported format ({_FORMATS}).",
        )


class UnsupportedCodecError(MediaError):
    """The container is accepted, what is in it is not."""

    def __init__(self, codec: str) -> None:
        super().__init__(
            Reason.UNSUPPORTED_MEDIA, f"{codec_name(codec)} audio is not supported; convert the file to mp3 or flac."
        )


class NoAudioTrackError(MediaError):
    """A readable container without an audio track: a silent video, a picture."""

    def __init__(self) -> None:
        super().__init__(Reason.NO_AUDIO, "The file has no audio track.")


class UndecodableError(MediaError):
    """Not one sample came out: the file is damaged, or took the decoder down."""

    def __init__(self) -> None:
        super().__init__(
            Reason.UNSUPPORTED_MEDIA, "The file's audio could not be decoded; it is damaged or holds no sound."
        )


class AudioTooLongError(MediaError):
    """More audio came out than may be transcribed in one request."""

    def __init__(self, max_audio_s: int) -> None:
        super().__init__(
            Reason.TOO_LARGE, f"The audio is longer than {max_audio_s} seconds, the limit for one file; split it."
        )


class DecodeTimeoutError(MediaError):
    """Decoding used up its time."""

    def __init__(self, wall_s: float) -> None:
        super().__init__(
            Reason.UNSUPPORTED_MEDIA,
            f"The file's audio could not be decoded within {wall_s:g} seconds; convert it to WAV or MP3 and try again.",
        )
