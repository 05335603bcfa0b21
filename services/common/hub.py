"""What a hub has of a repository, and the bytes of its files; how they are kept here is `hub_cache`'s business.

The hub is huggingface_hub's, with its settings (HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, HF_HUB_DOWNLOAD_TIMEOUT ...).
Its `snapshot_download` is not used: that of 2.4 throws away what has come of a file when the process ends or the hub
does, and waits without end for a hub that takes connections and says nothing.
"""

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, constants, get_hf_file_metadata, get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import build_hf_headers, tqdm  # type: ignore[attr-defined]  # documented, not marked

_PAUSES_S = (0.5, 2.0)
_TOO_MANY_REQUESTS = 429
_PARTIAL_CONTENT = 206


class HubError(OSError):
    """A hub cannot give what it was asked for; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at the hub; `tag` names its content: at most hubs by SHA-256, small files as git does it."""

    name: str
    url: str
    tag: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a repository that are needed, at the commit that is its newest."""

    commit: str
    files: tuple[RemoteFile, ...]


def listing(repository: str, patterns: Sequence[str]) -> Listing:
    """Ask the hub for a repository's files whose names match one of `patterns`, the smallest first. Raises HubError."""
    with _in_a_sentence(repository):
        info = HfApi().model_info(repository, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        names = [sibling.rfilename for sibling in info.siblings or ()]
        commit = _plain(info.sha)
        files = [_describe(repository, name, commit) for name in names if any(fnmatch(name, each) for each in patterns)]
        return Listing(commit, tuple(sorted(files, key=lambda file: file.size_bytes)))


def fetch(file: RemoteFile, part: Path) -> None:
    """Append to `part` what it lacks of the file; what has come stays there, whatever happens.

    Raises HubError, and OSError where it cannot be written.
    """
    part.touch()
    failures = 0
    with _in_a_sentence(file.name), _bar(file) as bar:
        while (before_bytes := _size_bytes(part)) < file.size_bytes:
            try:
                _append(file, part, bar)
            except (httpx2.TransportError, HfHubHTTPError) as error:
                failures = failures + 1 if _size_bytes(part) <= before_bytes else 1
                if failures > len(_PAUSES_S) or not _may_pass(error):
                    raise
                time.sleep(_PAUSES_S[failures - 1])


def _describe(repository: str, name: str, commit: str) -> RemoteFile:
    url = hf_hub_url(repository, name, revision=commit)
    found = get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    if found.size is None:
        raise ValueError(f"the size of {name} is missing")
    return RemoteFile(name, url, _plain(found.etag), found.size)


def _append(file: RemoteFile, part: Path, bar: tqdm) -> None:
    start_bytes = _size_bytes(part)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if start_bytes:
        headers["Range"] = f"bytes={start_bytes}-"
    timeout_s = constants.HF_HUB_DOWNLOAD_TIMEOUT
    # The address is the repository's each time: the storage's, to which it leads, is good for minutes only.
    with (
        get_session().stream("GET", file.url, headers=headers, timeout=timeout_s, follow_redirects=True) as response,
        part.open("ab") as content,
    ):
        hf_raise_for_status(response)
        if response.status_code != _PARTIAL_CONTENT:  # the whole file comes
            content.truncate(0)
            start_bytes = 0
        bar.update(start_bytes - bar.n)
        for block in response.iter_bytes():
            content.write(block)
            bar.update(len(block))
        # A file that is said to be here is so after a power cut, too.
        content.flush()
        os.fsync(content.fileno())
    if _size_bytes(part) < file.size_bytes:
        raise httpx2.RemoteProtocolError("the answer ended before the file did")


def _bar(file: RemoteFile) -> tqdm:
    # On a terminal only: in a log its many lines would be in the way.
    return tqdm(total=file.size_bytes, desc=file.name, unit="B", unit_scale=True, disable=None)  # type: ignore[no-untyped-call]


def _may_pass(error: Exception) -> bool:
    """Return whether another try may help."""
    if isinstance(error, HfHubHTTPError):
        return error.response.is_server_error or error.response.status_code == _TOO_MANY_REQUESTS
    return True


def _size_bytes(part: Path) -> int:
    return part.stat().st_size


def _plain(text: str | None) -> str:
    """Return a hub's name for something as a file here may be called."""
    if not text:
        raise ValueError("it names no commit or content")
    return re.sub(r"[^\w-]", "_", text)


@contextmanager
def _in_a_sentence(what: str) -> Iterator[None]:
    """Turn what huggingface_hub and its HTTP client raise into HubError."""
    try:
        yield
    except OfflineModeIsEnabled:
        raise HubError(f"{what} is not pulled while HF_HUB_OFFLINE is set.") from None
    except HfHubHTTPError as error:
        raise HubError(_refusal(what, error.response.status_code)) from error
    except httpx2.TimeoutException as error:
        raise HubError(f"{constants.ENDPOINT} does not answer.") from error
    except httpx2.RemoteProtocolError as error:
        raise HubError(f"{constants.ENDPOINT} cut {what} off; pull again to go on from there.") from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise HubError(f"{constants.ENDPOINT} cannot be reached: {_said(error)}.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise HubError(f"{constants.ENDPOINT} does not answer as a hub does: {_said(error)}.") from error


def _said(error: Exception) -> str:
    """Return what a library says as a part of a sentence."""
    return " ".join(str(error).split()).rstrip(".")


def _refusal(what: str, status: int) -> str:
    hub = constants.ENDPOINT
    if status in (401, 404):  # hubs say 401 of what does not exist too, as it might be private
        return f"There is no {what} at {hub}, or HF_TOKEN does not open it."
    if status == 403:
        return f"HF_TOKEN does not open {what} at {hub}."
    return f"{hub} answered {status} when asked for {what}; pull again later."
