"""What the sender of a file should know of how it was decoded, in sentences. Pure."""

from services.common.audio import SAMPLE_RATE
from services.edge.media.errors import codec_name
from services.edge.media.protocol import Choice, Report, Tracks

_TOLD = 3
_AT_END_S = 0.1


def warnings(report: Report) -> tuple[str, ...]:
    """Return a sentence for everything that was damaged, cut, left out or chosen."""
    return tuple(
        sentence
        for sentence in (
            _tracks(report.tracks),
            _unsupported(report.tracks),
            _lost(report),
            _missing(report),
            _unread(report.unread),
            _distrusted(report.distrusted_s),
        )
        if sentence
    )


def _tracks(tracks: Tracks) -> str:
    if tracks.total < 2:
        return ""
    used = _listed([str(number) for number in tracks.used])
    match tracks.choice, len(tracks.used):
        case _, 0:
            which = "none of them has sound"
        case Choice.DEFAULT, _:
            which = f"track {used}, the default one, was transcribed"
        case Choice.LANGUAGE, _:
            which = f"they differ in language, and track {used} was transcribed"
        case _, 1:
            which = f"only track {used} has sound"
        case _:
            which = f"tracks {used} were mixed"
    return f"The file has {tracks.total} audio tracks: {which}."


def _unsupported(tracks: Tracks) -> str:
    codecs = _listed(sorted({codec_name(codec) for codec in tracks.unsupported}))
    return f"Audio tracks were left out: {codecs} audio is not supported." if codecs else ""


def _lost(report: Report) -> str:
    if not report.lost:
        return ""
    end_s = report.samples / SAMPLE_RATE
    if report.lost_count == 1 and report.lost[0][0] > end_s - _AT_END_S:
        return f"The file breaks off at {end_s:.1f} s."
    seconds = sum(length_s for _, length_s in report.lost)
    amount = f" (at least {seconds:.2f} s)" if seconds >= 0.01 else ""
    return f"Damaged audio was left out{amount} at {_places([at_s for at_s, _ in report.lost], report.lost_count)}."


def _missing(report: Report) -> str:
    if not report.missing_s:
        return ""
    read_s = report.samples / SAMPLE_RATE
    return (
        f"The file says that it has {report.missing_s:.1f} s more audio than the {read_s:.1f} s that could be read: "
        "it is cut off or damaged."
    )


def _unread(unread: int) -> str:
    if not unread:
        return ""
    return f"The file is several recordings one behind the other, and {unread} of them could not be read."


def _distrusted(places_s: list[float]) -> str:
    if not places_s:
        return ""
    return f"The file's time stamps jump at {_places(places_s, len(places_s))}; the pause there was left out."


def _places(places_s: list[float], count: int) -> str:
    told = [f"{at_s:.1f} s" for at_s in places_s[:_TOLD]]
    more = count - len(told)
    return _listed([*told, f"{more} more places"] if more > 1 else [*told, "another place"] if more else told)


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
