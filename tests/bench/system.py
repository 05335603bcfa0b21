"""The four programs as real processes: started on free ports, watched, called, and ended by their process groups.

Their store runs beside them, with one paid account in it, whose every call here is.

Clients of the edge (HTTP) and of the services (gRPC) are here too; what is measured with them is not.
"""

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import grpc
import psutil
from stt.asr.v1 import asr_pb2, asr_pb2_grpc
from stt.diarize.v1 import diarize_pb2, diarize_pb2_grpc

from tests.bench.account import Account, paid_account
from tests.bench.scoring import SpeakerTurn, TimedWord

PROGRAMS = ("asr", "diarize", "summarize", "edge")
EMBEDDED_MODEL = "moonshine-tiny-en"
_HOST = "127.0.0.1"
_START_S = 60.0
_STOP_S = 10.0
_REQUEST_S = 3600.0
_SAMPLE_EVERY_S = 0.2


@dataclass(frozen=True)
class Answer:
    """What the edge answered, and how long it took from connecting to the last byte."""

    wall_s: float
    body: dict[str, Any]

    @property
    def words(self) -> list[TimedWord]:
        """Return all words with their segments' speakers."""
        return [
            TimedWord(word["word"], word["start"], word["end"], segment.get("speaker") or "", "timing" in segment)
            for segment in self.body["segments"]
            for word in segment["words"]
        ]


@dataclass
class Memory:
    """Resident bytes of a program's process tree over time (`time.monotonic` seconds)."""

    times_s: list[float] = field(default_factory=list)
    rss_bytes: list[int] = field(default_factory=list)

    def peak(self, start_s: float, end_s: float) -> int:
        """Return the most there was between two moments."""
        return max(rss for at, rss in zip(self.times_s, self.rss_bytes, strict=True) if start_s <= at <= end_s)


class System:
    """Runs the four programs while it is entered; `start_s` is how long they took to be healthy."""

    def __init__(self, log_dir: Path, settings: Mapping[str, str]) -> None:
        """Choose free ports; nothing is started yet. The programs log to files in `log_dir`.

        `settings` are variables of the environment for all of them.
        """
        self._settings = settings
        self._ports = free_ports()
        self._log_dir = log_dir
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: list[IO[bytes]] = []
        self._store = ExitStack()
        self.account: Account
        self.start_s = 0.0

    def __enter__(self) -> Self:
        """Start the programs and wait until /health says ok."""
        self.account = self._store.enter_context(paid_account())
        environment = {**os.environ, **port_settings(self._ports), **self.account.settings, **self._settings}
        started = time.monotonic()
        try:
            for name in PROGRAMS:
                log = (self._log_dir / f"{name}.log").open("wb")
                self._logs.append(log)
                self._processes[name] = subprocess.Popen(
                    [sys.executable, "-m", f"services.{name}"],
                    env=environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self._wait_until_healthy(started + _START_S)
        except BaseException:
            self._stop()
            raise
        self.start_s = time.monotonic() - started
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the programs, children included."""
        self._stop()

    def pid(self, program: str) -> int:
        """Return the process id of `program`."""
        return self._processes[program].pid

    def address(self, program: str) -> str:
        """Return host:port of `program`."""
        return f"{_HOST}:{self._ports[program]}"

    def transcribe(self, media: bytes, *, diarize: bool, speakers: int = 0, model: str = EMBEDDED_MODEL) -> Answer:
        """Post a file to the edge and return its JSON; `speakers` 0 finds their number out."""
        return self.upload(iter((media,)), len(media), diarize=diarize, speakers=speakers, model=model)

    def upload(
        self,
        media: Iterator[bytes],
        media_bytes: int,
        *,
        diarize: bool,
        speakers: int = 0,
        model: str = EMBEDDED_MODEL,
    ) -> Answer:
        """Post `media_bytes` of a file piece by piece, as they are made."""
        boundary = secrets.token_hex(16)
        fields = {"model": model, "diarize": str(diarize).lower(), "speakers": str(speakers)}
        parts = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        )
        head = (
            f'{"".join(parts)}--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="recording"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + media_bytes + len(tail)),
            **self.account.headers,
        }

        def body() -> Iterator[bytes]:
            yield head
            yield from media
            yield tail

        started = time.monotonic()
        connection = http.client.HTTPConnection(_HOST, self._ports["edge"], timeout=_REQUEST_S)
        try:
            connection.request("POST", "/v1/transcribe", body(), headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200 or "error" in answer:
            raise RuntimeError(f"the edge answered {response.status}: {answer}")
        return Answer(time.monotonic() - started, answer)

    def diarize(
        self, pcm: Iterable[bytes], duration_s: float, on_progress: Callable[[float], None] = lambda _: None
    ) -> list[SpeakerTurn]:
        """Diarize over gRPC, without the edge; `pcm` in messages of at most 64 KiB.

        `on_progress` is told the seconds of audio that are done.
        """
        with grpc.insecure_channel(f"{_HOST}:{self._ports['diarize']}") as channel:
            stub = diarize_pb2_grpc.DiarizeServiceStub(channel)
            config = diarize_pb2.DiarizeConfig(expected_duration_s=duration_s)

            def requests() -> Iterator[diarize_pb2.DiarizeRequest]:
                yield diarize_pb2.DiarizeRequest(config=config)
                for message in pcm:
                    yield diarize_pb2.DiarizeRequest(audio=message)

            turns = []
            for event in stub.Diarize(requests(), timeout=_REQUEST_S):
                match event.WhichOneof("event"):
                    case "progress":
                        on_progress(event.progress.processed_s)
                    case "turn":
                        turns.append(SpeakerTurn(str(event.turn.speaker), event.turn.start_s, event.turn.end_s))
        return turns

    def recognize(
        self,
        pcm: Iterable[bytes],
        on_progress: Callable[[float], None] = lambda _: None,
        model: str = EMBEDDED_MODEL,
        language: str = "en",
    ) -> str:
        """Transcribe over gRPC, without the edge; `on_progress` is told the seconds of audio that are done."""
        return self.recognized(pcm, on_progress, model, language)[0]

    def recognized(
        self, pcm: Iterable[bytes], on_progress: Callable[[float], None], model: str, language: str
    ) -> tuple[str, str]:
        """Return the text and the language that was found; see `recognize`."""
        with grpc.insecure_channel(f"{_HOST}:{self._ports['asr']}") as channel:
            stub = asr_pb2_grpc.AsrServiceStub(channel)
            config = asr_pb2.TranscribeConfig(model=model, language=language)

            def requests() -> Iterator[asr_pb2.TranscribeRequest]:
                yield asr_pb2.TranscribeRequest(config=config)
                for message in pcm:
                    yield asr_pb2.TranscribeRequest(audio=message)

            texts = []
            for event in stub.Transcribe(requests(), timeout=_REQUEST_S):
                match event.WhichOneof("event"):
                    case "progress":
                        on_progress(event.progress.processed_s)
                    case "segment":
                        texts.append(event.segment.text)
                    case "finished":
                        language = event.finished.language
        return " ".join(texts), language

    def _wait_until_healthy(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended with {process.returncode}; see {self._log_dir / name}.log")
            if self._health() == "ok":
                return
            time.sleep(0.1)
        raise RuntimeError(f"not healthy after {_START_S:g} s ({self._health()}); see the logs in {self._log_dir}")

    def _health(self) -> str:
        connection = http.client.HTTPConnection(_HOST, self._ports["edge"], timeout=5)
        try:
            connection.request("GET", "/health")
            return str(json.loads(connection.getresponse().read()).get("status"))
        except (OSError, http.client.HTTPException, ValueError) as error:
            return f"no answer: {error}"
        finally:
            connection.close()

    def _stop(self) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        for process in self._processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for log in self._logs:
            log.close()
        self._store.close()


class MemorySampler:
    """Samples the memory of a process tree in a thread while it is entered."""

    def __init__(self, pid: int) -> None:
        """Watch `pid` and its children."""
        self._process = psutil.Process(pid)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.memory = Memory()

    def __enter__(self) -> Memory:
        """Begin; the samples are added to what is returned."""
        self._thread.start()
        return self.memory

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.is_set():
            rss = tree_rss(self._process)
            self.memory.times_s.append(time.monotonic())
            self.memory.rss_bytes.append(rss)
            self._done.wait(_SAMPLE_EVERY_S)


def tree_rss(process: psutil.Process) -> int:
    """Return the resident bytes of a process and all its descendants; shared pages count in each."""
    total = 0
    for member in (process, *process.children(recursive=True)):
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def port_settings(ports: Mapping[str, int]) -> dict[str, str]:
    """Return the settings that make the programs listen on, and find each other at, `ports`; metrics anywhere."""
    listen = {f"{name.upper()}_PORT": str(port) for name, port in ports.items()}
    listen |= {f"{name.upper()}_METRICS_PORT": "0" for name in ports}
    find = {f"{name.upper()}_ADDRESS": f"{_HOST}:{port}" for name, port in ports.items()}
    return listen | find


def free_ports() -> dict[str, int]:
    """Return a port of the loopback address that is free now for each program."""
    sockets = [socket.socket() for _ in PROGRAMS]
    try:
        for one in sockets:
            one.bind((_HOST, 0))
        return {name: one.getsockname()[1] for name, one in zip(PROGRAMS, sockets, strict=True)}
    finally:
        for one in sockets:
            one.close()
