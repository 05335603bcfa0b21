"""Forms as no client of ours would send them, and clients that are slow, silent or gone."""

import asyncio
import base64
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest

from tests.edge.conftest import Answer, Edge, FakeServices, StartEdge, form_of, silence

MB = 1024 * 1024
BOUNDARY = "b0undary"


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
    return f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + value + b"\r\n"


def end() -> bytes:
    return f"--{BOUNDARY}--\r\n".encode()


async def send(edge: Edge, body: bytes, content_type: str = f"multipart/form-data; boundary={BOUNDARY}") -> Answer:
    return await edge.request("POST", "/v1/transcribe", data=body, headers={"Content-Type": content_type})


@asynccontextmanager
async def connection(edge: Edge, head: str = "") -> Any:
    """A bare connection, with the head of a transcription sent; `head` adds lines to it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(
        f"POST /v1/transcribe HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {edge.key}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n{head}\r\n".encode()
    )
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_fields_may_come_after_the_file(edge: Edge, fakes: FakeServices, quiet: bytes) -> None:
    answer = await send(edge, part("file", quiet, "x.wav") + part("model", b"small") + part("speakers", b"3") + end())
    assert answer.status == 200
    assert (fakes.asr.config.model, fakes.diarize.config.speakers) == ("small", 3)


async def test_an_empty_field_is_its_default_and_an_unknown_one_is_named_in_a_warning(
    edge: Edge, fakes: FakeServices, quiet: bytes
) -> None:
    fields = part("top_k", b"x" * 100_000) + part("model", b"") + part("temperature", b"\xff\xfe")
    answer = await send(edge, fields + part("file", quiet) + end())
    assert (answer.status, answer.json["warnings"]) == (
        200,
        ["Unknown fields were ignored: 'top_k', 'temperature'."],
    )
    assert fakes.asr.config.model == ""


async def test_lists_may_be_repeated_or_have_commas(edge: Edge, fakes: FakeServices, quiet: bytes) -> None:
    names = [f"Nagg{number}" for number in range(97)]
    keywords = part("keywords", b"Hamm, Clov") + b"".join(part("keywords", name.encode()) for name in ["Čapek", *names])
    languages = part("languages", b"EN") + part("languages", b"pt-BR,es")
    answer = await send(edge, keywords + part("file", quiet) + languages + end())
    assert (answer.status, answer.json["warnings"]) == (200, [])
    assert list(fakes.asr.config.keywords) == ["Hamm", "Clov", "Čapek", *names]
    assert list(fakes.asr.config.languages) == ["en", "pt", "es"]


async def test_a_chunked_upload_is_fine(edge: Edge, quiet: bytes) -> None:
    async def pieces() -> Any:
        yield part("file", quiet, "x.wav")[:1000]
        yield part("file", quiet, "x.wav")[1000:] + end()

    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    assert (await edge.request("POST", "/v1/transcribe", data=pieces(), headers=headers)).status == 200


async def test_a_bad_parameter_is_a_400_that_names_it(edge: Edge, quiet: bytes) -> None:
    answer = await edge.transcribe(quiet, speakers="99")
    assert answer.status == 400
    assert "speakers" in answer.json["error"]


async def test_a_field_longer_than_any_value_is_a_400(edge: Edge, quiet: bytes) -> None:
    answer = await edge.transcribe(quiet, model="x" * 70_000)
    assert answer.status == 400
    assert "model" in answer.json["error"]


async def test_a_bad_parameter_before_a_long_file_is_answered_before_the_file_is_sent(edge: Edge) -> None:
    async with connection(edge, f"Content-Length: {1024 * MB}\r\n") as (reader, writer):
        writer.write(part("speakers", b"99"))
        writer.write(part("file", bytes(MB), "x.wav"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "parameters",
    [
        'name="file"; filename="Meeting; Q3; final.mp3"',
        'filename="Meeting; Q3; final.mp3"; name="file"',
        r'name="file"; filename="a \"great\"; day.mp3"',
        r'filename="ends with a backslash\"; name="file"',
        'name="file"; filename="100%; a %22quoted%22 one.mp3"',
        'name="file"; filename="Gespräch; 議事録.mp3"',
        'name="file"; filename="x.mp3"; filename*=UTF-8\'\'Gespr%C3%A4ch%3B%20Q3.mp3',
        "name=file; filename=Meeting; Q3.mp3",
        "filename*=\"UTF-8''x%3By.mp3\"; name*=UTF-8''file",
        'NAME="file"; filename=""',
    ],
)
async def test_a_file_may_have_any_name(edge: Edge, quiet: bytes, parameters: str) -> None:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {parameters}\r\n\r\n".encode()
    answer = await send(edge, part("model", b"small") + head + quiet + b"\r\n" + end())
    assert (answer.status, answer.json.get("warnings")) == (200, [])


async def test_a_part_in_base64_is_decoded(edge: Edge, fakes: FakeServices, quiet: bytes) -> None:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"\r\nContent-Transfer-Encoding: Base64\r\n\r\n'
    answer = await send(edge, head.encode() + base64.encodebytes(quiet) + b"\r\n" + end())
    assert (answer.status, answer.json["duration"]) == (200, 1.0)


async def test_a_part_in_another_transfer_encoding_is_a_400_that_names_both(edge: Edge, quiet: bytes) -> None:
    head = b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    answer = await send(edge, part("file", quiet).replace(b"\r\n\r\n", b"\r\n" + head, 1) + end())
    assert answer.status == 400
    assert "field file has Content-Transfer-Encoding 'quoted-printable'" in answer.json["error"]


async def test_parameters_may_stand_in_the_query_and_those_of_the_form_count_more(
    edge: Edge, fakes: FakeServices, quiet: bytes
) -> None:
    query = "?model=medium&diarize=false&keywords=Hamm&top_k=1"
    form = form_of(quiet, model="small", keywords="Clov")
    answer = await edge.request("POST", f"/v1/transcribe{query}", data=form)
    assert (answer.status, answer.json["speakers"]) == (200, [])
    assert answer.json["warnings"] == ["Unknown fields were ignored: 'top_k'."]
    assert (fakes.asr.config.model, list(fakes.asr.config.keywords)) == ("small", ["Hamm", "Clov"])


async def test_a_bad_parameter_in_the_query_is_a_400_before_the_file_is_sent(edge: Edge) -> None:
    head = f"POST /v1/transcribe?speakers=99 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {edge.key}\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(f"{head}Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {MB}\r\n\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
    writer.close()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (part("model", b"small") + end(), "no file"),
        (end(), "no file"),
        (part("file", b"x", "x.wav") + part("file", b"x", "y.wav") + end(), "two files"),
        (part("file", b"x" * 1000, "x.wav"), "cut off"),
        (part("file", b"x" * 1000, "x.wav")[:30], "cut off"),
        (b"", "cut off"),
        (b"no form at all", "cut off"),
        (b"\n" * 2 * MB + part("file", b"x") + end(), "boundary"),
        (b"\n" * 100_000 + part("file", b"x") + end(), "boundary"),
        (b"".join(part(f"f{i}", b"x") for i in range(20_000)) + end(), "256 fields"),
        (b"--" + BOUNDARY.encode() + b"\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n--i--\r\n", "within"),
        (b"--" + BOUNDARY.encode() + b"\r\n" + b"A: b\r\n" * 10_000 + b"\r\nx\r\n" + end(), "damaged"),
        (b"--" + BOUNDARY.encode() + b"\r\nA: " + b"b" * 100_000 + b"\r\n\r\nx\r\n" + end(), "damaged"),
    ],
)  # fmt: skip
async def test_a_form_that_is_wrong_is_a_400_that_says_how(edge: Edge, body: bytes, says: str) -> None:
    answer = await send(edge, body)
    assert answer.status == 400
    assert says in answer.json["error"]


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/x-www-form-urlencoded", "audio/wav", "multipart/mixed; boundary=x", "text/plain"],
)
async def test_another_content_type_is_a_400_that_names_the_right_one(
    edge: Edge, quiet: bytes, content_type: str
) -> None:
    answer = await send(edge, quiet, content_type)
    assert answer.status == 400
    assert "multipart/form-data" in answer.json["error"]


async def test_a_form_without_a_boundary_is_a_400(edge: Edge, quiet: bytes) -> None:
    assert (await send(edge, quiet, "multipart/form-data")).status == 400


@pytest.mark.parametrize("content_type", ["text/plain;charset=UTF-8", "multipart/form-data; boundary=----x"])
async def test_nodes_stringified_form_gets_a_hint(edge: Edge, content_type: str) -> None:
    answer = await send(edge, b"[object FormData]", content_type)
    assert answer.status == 400
    assert "node-fetch" in answer.json["error"]


class TestLimits:
    """Sizes and times."""

    @pytest.fixture
    async def edge(self, fakes: FakeServices, start_edge: StartEdge) -> Edge:
        return await start_edge(
            paid_upload_bytes=2 * MB, body_idle_s=0.4, min_body_rate=1_000, keepalive_s=0.4, **fakes.addresses
        )

    async def test_a_length_over_the_limit_is_refused_before_the_body_is_asked_for(self, edge: Edge) -> None:
        head = f"Content-Length: {3 * MB + 1}\r\nExpect: 100-continue\r\n"
        async with connection(edge, head) as (reader, _):
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
            assert b"2 MB" in await reader.readuntil(b"}")

    async def test_a_body_is_asked_for_when_its_head_is_fine(self, edge: Edge, quiet: bytes) -> None:
        body = part("file", quiet, "x.wav") + end()
        async with connection(edge, f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n") as (reader, writer):
            assert (await reader.readuntil(b"\r\n\r\n")) == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(body)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")

    async def test_a_file_over_the_limit_in_a_body_of_allowed_length_is_counted(self, edge: Edge) -> None:
        answer = await edge.transcribe(bytes(2 * MB + 1))
        assert answer.status == 413
        assert "2 MB" in answer.json["error"]

    async def test_a_body_without_a_length_is_counted(self, edge: Edge) -> None:
        async def endless() -> Any:
            yield part("file", b"", "x.wav")[:-2]
            while True:
                yield bytes(65_536)

        async with connection(edge, "Transfer-Encoding: chunked\r\n") as (reader, writer):
            answered = asyncio.create_task(reader.readline())
            async for piece in endless():
                if answered.done():
                    break
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                await asyncio.sleep(0)
            assert (await answered).startswith(b"HTTP/1.1 413 ")

    async def test_a_file_of_just_the_limit_is_taken(self, edge: Edge, quiet: bytes) -> None:
        answer = await edge.transcribe(quiet + bytes(2 * MB - len(quiet)))
        assert answer.status == 200

    async def test_ignored_fields_count_too(self, edge: Edge) -> None:
        async with connection(edge, "Transfer-Encoding: chunked\r\n") as (reader, writer):
            body = part("junk", bytes(3 * MB + 1))
            writer.write(b"%x\r\n%s\r\n" % (len(body), body))
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")

    async def test_a_silent_body_is_ended(self, edge: Edge) -> None:
        async with connection(edge, "Content-Length: 1000\r\n") as (reader, writer):
            writer.write(part("file", b"RIFF", "x.wav")[:-2])
            async with asyncio.timeout(5):
                assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")

    async def test_a_body_that_trickles_is_ended(self, edge: Edge) -> None:
        async with connection(edge, "Content-Length: 1000000\r\n") as (reader, writer):
            writer.write(part("file", b"RIFF", "x.wav")[:-2])
            answered = asyncio.create_task(reader.readline())
            async with asyncio.timeout(5):
                while not answered.done():
                    writer.write(b"x")
                    await asyncio.wait({answered}, timeout=0.1)
            assert answered.result().startswith(b"HTTP/1.1 408 ")

    async def test_a_head_that_does_not_end_is_closed(self, edge: Edge) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()

    async def test_audio_longer_than_the_limit_is_refused(self, fakes: FakeServices, start_edge: StartEdge) -> None:
        edge = await start_edge(paid_audio_s=1, **fakes.addresses)
        answer = await edge.transcribe(silence(3))
        assert answer.status == 413
        assert "1 second" in answer.json["error"]

    async def test_a_full_spool_is_a_503(self, fakes: FakeServices, start_edge: StartEdge, quiet: bytes) -> None:
        edge = await start_edge(spool_budget_bytes=10_000, **fakes.addresses)
        answer = await edge.transcribe(quiet)
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0


async def test_half_an_upload_and_a_hang_up_leaves_nothing(edge: Edge, quiet: bytes) -> None:
    body = part("file", bytes(4 * MB), "x.wav") + end()
    async with connection(edge, f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n") as (reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(body[: 2 * MB])
        await writer.drain()
    # The fixture looks at the spool and for children; here the server goes on as if nothing had been.
    assert (await edge.transcribe(quiet)).status == 200


async def test_a_caller_who_hangs_up_while_his_file_is_decoded_leaves_nothing(
    edge: Edge, two_hours: bytes, quiet: bytes
) -> None:
    request = asyncio.create_task(edge.transcribe(two_hours))
    child = await decoding_child()
    request.cancel()
    await asyncio.wait({request})
    await asyncio.to_thread(child.wait, 1)
    assert (await edge.transcribe(quiet)).status == 200


async def decoding_child() -> psutil.Process:
    """Wait for a child that decodes."""
    while True:
        for child in psutil.Process().children():
            if "services.edge.media.child" in child.cmdline():
                return child
        await asyncio.sleep(0.01)  # a process that starts tells nobody


class TestBadMedia:
    """Files that are no recordings."""

    @pytest.mark.parametrize(
        ("content", "name"),
        [
            (b"", "empty.wav"),
            (b"Four score and seven years ago our fathers brought forth.\n" * 50, "text.mp3"),
            (b"\x89PNG\r\n\x1a\n" + bytes(500), "picture.png"),
            (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n", "playlist.mp4"),
            (b"ffconcat version 1.0\nfile /etc/passwd\n", "list.mp4"),
            (b"RIFF\xff\xff\xff\xffWAVEfmt ", "cut.wav"),
            (bytes(100_000), "zeros.mp4"),
        ],
    )
    async def test_each_is_a_400_and_the_next_good_file_is_transcribed(
        self, edge: Edge, quiet: bytes, content: bytes, name: str
    ) -> None:
        answer = await edge.transcribe(content, filename=name)
        assert answer.status == 400
        assert answer.json["error"]
        assert (await edge.transcribe(quiet)).status == 200


async def test_many_at_once_are_all_answered(edge: Edge, quiet: bytes) -> None:
    answers = await asyncio.gather(*(edge.transcribe(quiet) for _ in range(20)))
    assert [a.status for a in answers] == [200] * 20
