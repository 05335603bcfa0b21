"""Huggingface_hub's cache on this disk (HF_HOME), in its layout, so that other programs share it.

Of a repository it has `blobs` named by their content, `snapshots` of links to them by commit, and `refs` to the newest
commit. What comes over the wire is `hub`'s; what the files mean is the business of who asks for them. As a program it
pulls one repository: `python -m services.common.hub_cache REPOSITORY PATTERN...`.
"""

import asyncio
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # documented, not marked

from services.common import hub
from services.common.hub import HubError

_MIB = 1024 * 1024
_REFERENCE = Path("refs", "main")


def snapshot(repository: str) -> Path | None:
    """Return the folder of a repository's newest files; None where there is none.

    One that `pull` made holds all that was asked for; another program may have left a part.
    """
    home = _home(repository)
    try:
        folder = home / "snapshots" / (home / _REFERENCE).read_text().strip()
    except OSError:
        return None
    return folder if folder.is_dir() else None


def damaged(folder: Path) -> list[str]:
    """Return the names of a snapshot's files that are not what the hub has; reads all of them."""
    links = sorted(path for path in folder.rglob("*") if path.is_symlink())
    # One link only: the blob may be a link itself, to one that repositories share, whose name is another hash.
    return [str(link.relative_to(folder)) for link in links if _is_damaged(link, link.readlink().name)]


def pull(repository: str, patterns: Sequence[str], problem: Callable[[Path], str | None] = lambda folder: None) -> Path:
    """Bring the files that match here, and anew what is damaged; return their folder, in which `problem` finds none.

    Shows on a terminal how far it is. However it ends, the next pull goes on from there. Raises HubError.
    """
    home = _home(repository)
    try:
        return _pull(repository, patterns, problem, home)
    except HubError:
        raise
    except OSError as error:
        raise HubError(f"{error.filename or home} cannot be written: {error.strerror}.") from error


async def fetch(repository: str, patterns: Sequence[str]) -> None:
    """Pull in a process of its own. Raises HubError."""
    await apart(sys.executable, "-m", "services.common.hub_cache", repository, *patterns)


async def apart(*command: str) -> None:
    """Run what downloads in a process of its own: it can hang or be ended without any harm here.

    Raises HubError with the last line of what it says where it fails.
    """
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines()
        raise HubError(lines[-1] if lines else f"the download ended with {process.returncode}")


def _pull(repository: str, patterns: Sequence[str], problem: Callable[[Path], str | None], home: Path) -> Path:
    listing = hub.listing(repository, patterns)
    folder = home / "snapshots" / listing.commit
    for file in listing.files:
        blob = home / "blobs" / file.tag
        _bring(file, blob)
        link = folder / file.name
        staged = _staged(link)
        staged.symlink_to(os.path.relpath(blob, link.parent))
        staged.replace(link)
    if not listing.files:
        raise HubError(f"{repository} has no {' or '.join(patterns)}.")
    if reason := problem(folder):
        raise HubError(f"{repository} is not a model that can be loaded: {reason}")
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
            raise HubError(f"There is no room for another {missing_bytes / _MIB:.0f} MiB in {blob.parent}.")
        hub.fetch(file, part)
        if part.stat().st_size != file.size_bytes or _is_damaged(part, file.tag):
            part.unlink()
            raise HubError(f"{file.name} came damaged from {constants.ENDPOINT} and was thrown away; pull again.")
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


def _home(repository: str) -> Path:
    return Path(constants.HF_HUB_CACHE, f"models--{repository.replace('/', '--')}")


def _staged(path: Path) -> Path:
    """Return where to make what is to replace `path` at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.unlink(missing_ok=True)
    return staged


def main() -> None:
    """Pull what the command line names."""
    repository, *patterns = sys.argv[1:]
    try:
        pull(repository, patterns)
    except HubError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
