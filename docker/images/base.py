"""The image that the Dockerfiles start from, made of this machine's own package sources where it cannot be pulled."""

import re
import shutil
import subprocess
from pathlib import Path

from docker.images.storage import Storage

IMAGE = "debian:bookworm-slim"
_SUITE = "bookworm"
# What the published image leaves out, too.
_LEFT_OUT = (
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
)
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Settings of apt's that say how this machine reaches its sources.
_REACH = re.compile(r"Acquire::(Check-|https?::Proxy|Retries)\S* ")


def provide(storage: Storage, how: str = "auto") -> None:
    """Have the base image: `pull` it, `bootstrap` it, or (`auto`) take what is there, else pull, else bootstrap.

    Raises SystemExit.
    """
    if how == "auto" and storage.image(IMAGE):
        return
    if how in ("auto", "pull"):
        try:
            storage.buildah("pull", IMAGE)
        except SystemExit:
            if how == "pull":
                raise
        else:
            return
    print(f"{IMAGE} cannot be pulled here: debootstrap makes it", flush=True)
    _bootstrap(storage)


def _bootstrap(storage: Storage) -> None:
    sources = _sources()
    container = storage.buildah("from", "scratch")
    try:
        root = Path(storage.buildah("mount", container))
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", _SUITE, root, sources[0][0]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"debootstrap failed\n{done.stdout[-2000:]}")
        _strip(root)
        _configure_apt(root, sources)
        storage.buildah("config", "--cmd", "bash", container)
        storage.buildah("commit", "--quiet", "--format=docker", container, IMAGE)
    finally:
        storage.buildah("rm", container)


def _sources() -> list[tuple[str, str]]:
    """Return where this machine has the suite and its updates from, as pairs of URI and release, the suite first."""
    text = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    releases = (_SUITE, f"{_SUITE}-updates", f"{_SUITE}-security")
    found = {release: uri for uri, release, component in map(str.split, text.splitlines()) if component == "main"}
    if _SUITE not in found:
        raise SystemExit(f"apt has no source of {_SUITE} here to make {IMAGE} from: pull it, or build elsewhere")
    return [(found[release], release) for release in releases if release in found]


def _strip(root: Path) -> None:
    for name in _LEFT_OUT:
        for path in (root / name).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _configure_apt(root: Path, sources: list[tuple[str, str]]) -> None:
    lines = (f"deb [signed-by={_KEYRING}] {uri} {release} main\n" for uri, release in sources)
    (root / "etc/apt/sources.list").write_text("".join(lines))
    settings = subprocess.run(["apt-config", "dump"], stdout=subprocess.PIPE, text=True, check=True).stdout
    reach = "".join(f"{line}\n" for line in settings.splitlines() if _REACH.match(line))
    (root / "etc/apt/apt.conf.d/90builder").write_text(reach)
