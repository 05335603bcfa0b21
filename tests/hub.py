"""A hub of models on this machine, with faults to switch on: it speaks as much HTTP as huggingface_hub asks for.

    with hub({"Systran/faster-whisper-small": folder}) as mirror:
        environment = mirror.environment(home)  # for a process that is to use it
        mirror.faults.cut_after_bytes = 4_000_000

As at the real hub, small files are tagged as git does it and answered at once, while weights are tagged by SHA-256 and
lead on to a storage at another address; repositories that do not exist are answered 401.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

WEIGHTS = "model.bin"


@dataclass
class Faults:
    """What the hub does wrong, to requests whose path contains `on`; nothing until it is set."""

    on: str = ""
    # Answers all with this status.
    status: int = 0
    # Ends the connection at this byte of a file; after `cuts` times no more.
    cut_after_bytes: int | None = None
    cuts: int = 1_000_000
    # Says nothing until `release` is set, or from this byte of a file on.
    stall: bool = False
    stall_after_bytes: int | None = None
    release: threading.Event = field(default_factory=threading.Event)
    # Flips a bit in the middle of the weights.
    corrupt: bool = False
    # Gives whole files to who asks for parts.
    ignore_ranges: bool = False
    # What it says is the size of the weights.
    claimed_bytes: int | None = None


@dataclass(frozen=True)
class Request:
    """What was asked for; `range` is the header, empty where there was none."""

    method: str
    path: str
    range: str
    authorization: str


class Hub:
    """The running hub; `repositories` are folders by name, read anew for each request."""

    def __init__(self, repositories: Mapping[str, Path]) -> None:
        self.repositories = dict(repositories)
        self.faults = Faults()
        self.requests: list[Request] = []
        self._asked = threading.Condition()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def storage(self) -> str:
        """Where weights are: the same server by another name, which to a client is another."""
        return f"http://localhost:{self._port}/storage"

    def environment(self, home: Path) -> dict[str, str]:
        """What a process is told to use this hub only, and `home` for what it keeps."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_ETAG_TIMEOUT": "1",
            "HF_HUB_DOWNLOAD_TIMEOUT": "1",
            "HF_TOKEN": "",
            "NO_PROXY": "*",
        }

    def ranges(self) -> list[str]:
        """The ranges of weights that were asked for, in order; empty for the whole."""
        return [request.range for request in self.requests if request.path.startswith("/storage/")]

    def record(self, request: Request) -> None:
        with self._asked:
            self.requests.append(request)
            self._asked.notify_all()

    def wait_until(self, state: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Return when `state`, looked at with each request, is true."""
        with self._asked:
            assert self._asked.wait_for(state, timeout_s)

    def start(self) -> None:
        """Take connections; after `stop` at the same address."""
        hub = self

        class Handler(_Handler):
            def __init__(self, *arguments: Any) -> None:
                self.hub = hub
                super().__init__(*arguments)

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Refuse connections."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        self._server = None

    def close(self) -> None:
        self.faults.release.set()
        if self._server is not None:
            self.stop()


@contextmanager
def hub(repositories: Mapping[str, Path]) -> Iterator[Hub]:
    """Run a hub that has these repositories until the end."""
    running = Hub(repositories)
    running.start()
    try:
        yield running
    finally:
        running.close()


class _Handler(BaseHTTPRequestHandler):
    """One request; a connection each, so that a stopped hub is really gone."""

    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        headers = self.headers
        self.hub.record(Request(self.command, self.path, headers.get("Range", ""), headers.get("Authorization", "")))
        faults = self.hub.faults
        if faults.on in self.path:
            if faults.status:
                self._say(faults.status, {})
                return
            if faults.stall:
                faults.release.wait()
        if found := re.fullmatch(r"/api/models/([^?]+?)(/revision/\w+|/tree/\w+)?(\?.*)?", self.path):
            self._describe(found[1], is_tree="/tree/" in (found[2] or ""))
        elif found := re.fullmatch(r"/(storage/)?(.+)/resolve/\w+/([^/]+)", self.path):
            self._give(found[2], found[3], is_storage=bool(found[1]))
        else:
            self._say(404, {})

    def _describe(self, repository: str, *, is_tree: bool) -> None:
        folder = self._folder(repository)
        if folder is None:
            return
        names = sorted(path.name for path in folder.iterdir())
        if is_tree:
            content: Any = [_tree_entry(folder / name) for name in names]
        else:
            siblings = [{"rfilename": name} for name in names]
            content = {"id": repository, "sha": _commit(folder), "siblings": siblings}
        body = json.dumps(content).encode()
        self._say(200, {"Content-Type": "application/json"}, body)

    def _give(self, repository: str, name: str, *, is_storage: bool) -> None:
        folder = self._folder(repository)
        if folder is None:
            return
        headers = {"X-Repo-Commit": _commit(folder), "Accept-Ranges": "bytes"}
        if not (folder / name).is_file():
            self._say(404, headers | {"X-Error-Code": "EntryNotFound"})
            return
        content = (folder / name).read_bytes()
        tag = _tag(folder / name)
        if name == WEIGHTS and not is_storage:
            linked = {"X-Linked-ETag": f'"{tag}"', "X-Linked-Size": str(self.hub.faults.claimed_bytes or len(content))}
            where = f"{self.hub.storage}{self.path}"
            self._say(302, headers | linked | {"Location": where, "ETag": '"of-the-pointer"'})
            return
        if name == WEIGHTS and self.hub.faults.corrupt:
            middle = len(content) // 2
            content = b"%s%c%s" % (content[:middle], content[middle] ^ 1, content[middle + 1 :])
        self._give_range(content, headers | {"ETag": f'"{tag}"'})

    def _give_range(self, content: bytes, headers: dict[str, str]) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not asked or self.hub.faults.ignore_ranges:
            self._say(200, headers, content, start=0)
            return
        start = int(asked[1])
        if start >= len(content):
            self._say(416, {"Content-Range": f"bytes */{len(content)}"})
            return
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._say(206, headers, content[start:], start=start)

    def _folder(self, repository: str) -> Path | None:
        folder = self.hub.repositories.get(repository)
        if folder is None:
            self._say(401, {}, b'{"error":"Invalid username or password."}')
        return folder

    def _say(self, status: int, headers: Mapping[str, str], body: bytes = b"", start: int | None = None) -> None:
        """Answer; `start` is where `body` begins in a file, None where it is of none."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        with suppress(BrokenPipeError, ConnectionResetError):  # who asked may be gone
            self.wfile.write(body if start is None else self._faulty(body, start))

    def _faulty(self, body: bytes, start: int) -> bytes:
        """Return what is sent of a file's content."""
        faults = self.hub.faults
        if faults.on not in self.path:
            return body
        if faults.stall_after_bytes is not None and start + len(body) > faults.stall_after_bytes:
            sent = max(0, faults.stall_after_bytes - start)
            self.wfile.write(body[:sent])
            self.wfile.flush()
            faults.release.wait()
            return body[sent:]
        if faults.cut_after_bytes is not None and faults.cuts and start + len(body) > faults.cut_after_bytes:
            faults.cuts -= 1
            return body[: max(0, faults.cut_after_bytes - start)]
        return body


def _tag(path: Path) -> str:
    content = path.read_bytes()
    if path.name == WEIGHTS:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _commit(folder: Path) -> str:
    names = sorted(path for path in folder.iterdir() if path.is_file())
    return hashlib.sha1("".join(path.name + _tag(path) for path in names).encode()).hexdigest()


def _tree_entry(path: Path) -> dict[str, Any]:
    entry = {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": _tag(path)}
    if path.name == WEIGHTS:
        entry["lfs"] = {"oid": _tag(path), "size": path.stat().st_size, "pointerSize": 134}
    return entry
