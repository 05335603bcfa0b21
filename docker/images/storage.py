"""Buildah and where it keeps images: in a folder of ours, so that nothing else of the machine is touched."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOLDER = Path("build/images").resolve()


def missing() -> str:
    """Return what keeps images from being built here, in words; empty: nothing does."""
    if os.geteuid() != 0:
        return "not root"
    needed = ("buildah", "debootstrap", "unshare", "nsenter", "ip", "curl")
    lacking = [name for name in needed if shutil.which(name) is None]
    if lacking:
        return f"no {' and no '.join(lacking)}"
    # Root in a container often may not make them.
    tried = subprocess.run(["unshare", "--mount", "--net", "true"], stderr=subprocess.DEVNULL)
    return "namespaces are not allowed" if tried.returncode else ""


class Storage:
    """Images and working containers below `folder`; `driver` is overlay where that can be mounted there, else vfs."""

    def __init__(self, folder: Path = FOLDER, driver: str = "") -> None:
        self.folder = folder
        for name in ("cache", "run"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.driver = driver or ("overlay" if _can_overlay(folder) else "vfs")

    def buildah(self, *arguments: str | Path, quiet: bool = True) -> str:
        """Run a command of buildah; return what it printed, or let it print. Raises SystemExit where it fails."""
        command, *rest = map(str, arguments)
        done = subprocess.run(
            [
                "nice",  # whatever else runs meanwhile goes first
                "buildah",
                f"--storage-driver={self.driver}",
                f"--root={self.folder / self.driver}",
                f"--runroot={self.folder / 'run'}",
                command,
                *rest,
            ],
            stdout=subprocess.PIPE if quiet else None,
            stderr=subprocess.PIPE if quiet else None,
            text=True,
            env=os.environ | {"TMPDIR": str(self.folder / "cache")},  # where cache mounts live
        )
        if done.returncode:
            raise SystemExit(f"buildah {command} failed with status {done.returncode}\n{done.stderr or ''}".rstrip())
        return (done.stdout or "").strip()

    def image(self, name: str) -> dict[str, Any] | None:
        """Return what an image is, as `buildah inspect` says it; None where it is not here."""
        if not self.buildah("images", "--quiet", "--filter", f"reference={name}"):
            return None
        found: dict[str, Any] = json.loads(self.buildah("inspect", "--type", "image", name))
        return found

    def config(self, name: str) -> dict[str, Any]:
        """Return what an image says of how it is run: Env, Cmd, User, Healthcheck and so on."""
        image = self.image(name)
        if image is None:
            raise SystemExit(f"there is no image {name} here")
        config: dict[str, Any] = image["Docker"]["config"]
        return config

    def size_bytes(self, name: str) -> int:
        """Return the bytes of the files of an image."""
        with self.mounted(name) as root:
            total = 0
            for folder, _, files in os.walk(root):
                total += sum(os.lstat(os.path.join(folder, file)).st_size for file in files)
            return total

    @contextmanager
    def mounted(self, name: str) -> Iterator[Path]:
        """Show the files of an image, which nothing that is written there changes, as a folder."""
        container = self.buildah("from", "--pull-never", name)
        try:
            yield Path(self.buildah("mount", container))
        finally:
            self.buildah("rm", container)


def _can_overlay(folder: Path) -> bool:
    """Try it: the file system below, or the sandbox around, may not have it."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        lower, upper, work, merged = (Path(name, each) for each in ("lower", "upper", "work", "merged"))
        for each in (lower, upper, work, merged):
            each.mkdir()
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        done = subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o", options, merged],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if done.returncode == 0:
            subprocess.run(["umount", merged], check=True)
        return done.returncode == 0
