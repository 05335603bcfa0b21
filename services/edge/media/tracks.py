"""Which of a file's audio tracks are decoded: runs only in the sandboxed child.

A track that is marked as the default one is. MP4 and MOV mark the first one by themselves, which tells nothing; tracks
in several languages are alternatives. Others belong together, one person each as meeting recorders write them.
"""

from dataclasses import dataclass

from av.container import InputContainer
from av.stream import Disposition

DECODERS = (
    "aac,aac_latm,ac3,eac3,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,alac,amrnb,amrwb,dca,flac,gsm,gsm_ms,mp1,mp1float,mp2,"
    "mp2float,mp3,mp3float,opus,pcm_alaw,pcm_bluray,pcm_dvd,pcm_f32be,pcm_f32le,pcm_f64be,pcm_f64le,pcm_mulaw,"
    "pcm_s16be,pcm_s16be_planar,pcm_s16le,pcm_s16le_planar,pcm_s24be,pcm_s24le,pcm_s24le_planar,pcm_s32be,pcm_s32le,"
    "pcm_s32le_planar,pcm_s8,pcm_s8_planar,pcm_u8,speex,vorbis,wavpack,wmalossless,wmapro,wmav1,wmav2,wmavoice"
)
MAX_TRACKS = 16
"""Most tracks that are mixed: each takes a pass over the file."""
_ASIDES = (
    Disposition.comment
    | Disposition.karaoke
    | Disposition.lyrics
    | Disposition.visual_impaired
    | Disposition.hearing_impaired
    | Disposition.clean_effects
    | Disposition.descriptions
    | Disposition.dependent
)
"""Other versions of what another track has."""


@dataclass(frozen=True)
class Track:
    """An audio track: `number` from 1 among them; `codec` is its name where it cannot be decoded."""

    index: int
    number: int
    language: str
    disposition: Disposition
    codec: str | None


@dataclass(frozen=True)
class Plan:
    """What to decode: those `alone`, one after the other until one has sound, else all of `together`, mixed.

    `default` is the track that somebody marked as the only default one.
    """

    alone: list[Track]
    together: list[Track]
    default: Track | None = None


def tracks(container: InputContainer) -> list[Track]:
    """Return a file's audio tracks in their order."""
    found = []
    for number, stream in enumerate(container.streams.audio, 1):
        context = stream.codec_context
        is_known = context is not None and context.codec.name in DECODERS.split(",")
        codec = None if is_known else (context.codec.long_name if context is not None else "")
        language = stream.language or "und"
        found.append(Track(stream.index, number, language, Disposition(stream.disposition), codec))
    return found


def plan(container: InputContainer, usable: list[Track]) -> Plan:
    """Choose among the tracks that can be decoded; there is at least one."""
    flagged = [track for track in usable if track.disposition & Disposition.default]
    flags_itself = container.format.name.startswith("mov")
    default = flagged[0] if len(flagged) == 1 and not (flags_itself and flagged[0].number == 1) else None
    others = [track for track in usable if track is not default]
    others = [track for track in others if not track.disposition & _ASIDES] or others
    if len({track.language for track in usable if track is default or track in others} - {"und"}) > 1:
        alone = sorted(others, key=lambda track: track not in flagged)
        return Plan([*([default] if default else []), *alone][:MAX_TRACKS], [], default)
    return Plan([default] if default else [], others[:MAX_TRACKS], default)
