"""What every answer of the edge has, and the paths that only read."""

import asyncio
import gzip
import json
import re

import pytest
from stt.asr.v1 import asr_pb2

from services.common.errors import Reason, SttError
from services.common.languages import LANGUAGES
from services.edge.errors import STATUS
from tests.edge.conftest import Edge, FakeServices, StartEdge, form_of

CONTRACT_MODELS = [
    ("large-v3-turbo", "Whisper Large V3 Turbo", 99, "fast"),
    ("large-v3", "Whisper Large V3", 99, "standard"),
    ("medium", "Whisper Medium", 99, "fast"),
    ("small", "Whisper Small", 99, "very_fast"),
]


def test_every_reason_has_an_http_status() -> None:
    assert set(STATUS) == set(Reason)


async def test_an_unknown_path_is_a_404_in_json(edge: Edge) -> None:
    answer = await edge.request("GET", "/v2/transcribe")
    assert answer.status == 404
    assert answer.json["error"]
    assert answer.json["code"] == "NOT_FOUND"
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]


async def test_a_wrong_method_is_a_405_in_json_that_names_the_right_one(edge: Edge) -> None:
    answer = await edge.request("GET", "/v1/transcribe")
    assert answer.status == 405
    assert answer.headers["Allow"] == "POST"
    assert "POST" in answer.json["error"]


async def test_a_fault_of_the_server_is_a_500_in_json_that_tells_nothing(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.edge.backends.Backends.catalog", lambda self: 1 / 0)
    answer = await edge.request("GET", "/v1/models")
    assert answer.status == 500
    assert answer.json["code"] == "INTERNAL"
    assert "division" not in answer.body.decode()


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nAuthorization: Bearer " + b"s3cret" * 2_000 + b"\r\n\r\n",
        b"POST /v1/summarize HTTP/1.1\r\nContent-Length: many\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_a_400_in_json_and_not_repeated(
    edge: Edge, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(sent)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b" 400 " in head.splitlines()[0]
    assert list(json.loads(body)) == ["error", "code", "request_id"]
    assert b"s3cret" not in body
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("path", ["/v1/models/", "/v1/languages/", "/v1/usage/", "/health/", "/live/", "/ready/"])
async def test_a_slash_at_the_end_of_a_path_changes_nothing(edge: Edge, path: str) -> None:
    plain, slashed = await edge.request("GET", path.rstrip("/")), await edge.request("GET", path)
    assert (slashed.status, slashed.body) == (200, plain.body)


async def test_a_slash_at_the_end_changes_nothing_for_posts_either(edge: Edge, quiet: bytes) -> None:
    assert (await edge.request("POST", "/v1/transcribe/", data=form_of(quiet))).json["text"] == "Hello, world."
    assert (await edge.request("POST", "/v1/summarize/", json={"text": "Hello."})).json["model"] == "fake-summary"


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "aes128gcm"])
@pytest.mark.parametrize("path", ["/v1/transcribe", "/v1/summarize"])
async def test_an_encoding_that_is_not_taken_is_a_415_that_names_those_that_are(
    edge: Edge, path: str, encoding: str
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {edge.key}\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Encoding: {encoding}\r\nContent-Length: 3\r\n\r\nabc".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b" 415 " in head.splitlines()[0]
    assert "gzip, deflate" in json.loads(body)["error"]


async def test_a_compressed_body_is_read(edge: Edge) -> None:
    body = gzip.compress(json.dumps({"text": "Hello."}).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    assert (await edge.request("POST", "/v1/summarize", data=body, headers=headers)).status == 200


@pytest.mark.parametrize(("method", "path"), [("GET", "/health"), ("GET", "/nowhere"), ("OPTIONS", "/health")])
async def test_no_answer_tells_what_serves(edge: Edge, method: str, path: str) -> None:
    assert "Server" not in (await edge.request(method, path)).headers


class TestHalfClosed:
    """Callers who end their side of the connection when they have asked, as `nc -N` does, and wait."""

    async def test_each_request_is_answered_and_the_connection_closed(self, edge: Edge) -> None:
        answer = await sent_and_ended(edge, 2 * b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.count(b"HTTP/1.1 200 OK") == answer.count(b'"status": "ok"') == 2

    @pytest.mark.parametrize("path", ["/v1/models", "/nowhere"])
    async def test_nobody_is_asked_to_go_on_into_the_answer(self, edge: Edge, path: str) -> None:
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n"
        answer = await sent_and_ended(edge, head.encode())
        assert re.match(rb"(HTTP/1\.1 100 Continue\r\n\r\n)?HTTP/1\.1 (200 OK|404 Not Found)\r\n", answer)

    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    async def test_an_answer_that_takes_its_time_comes_whole(
        self, edge: Edge, fakes: FakeServices, quiet: bytes, version: str
    ) -> None:
        fakes.asr.proceed.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(await form_request(edge, quiet, version))
        await fakes.asr.said.wait()
        writer.write_eof()
        opening = await reader.readexactly(9)  # so the server knows of it
        fakes.asr.proceed.set()
        head, _, body = (opening + await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert head.startswith(f"HTTP/{version} 200 OK\r\n".encode())
        assert json.loads(body)["text"] == "Hello, world."

    async def test_an_error_keeps_its_status(self, edge: Edge, fakes: FakeServices, quiet: bytes) -> None:
        fakes.asr.error = SttError(Reason.OVERLOADED, "Too much.")
        fakes.asr.proceed.clear()
        answering = asyncio.create_task(sent_and_ended(edge, await form_request(edge, quiet)))
        await fakes.asr.said.wait()
        fakes.asr.proceed.set()
        assert (await answering).startswith(b"HTTP/1.1 503 ")

    @pytest.mark.parametrize("is_begun", [False, True])
    async def test_who_is_gone_later_ends_the_work_within_a_second(
        self, fakes: FakeServices, start_edge: StartEdge, quiet: bytes, is_begun: bool
    ) -> None:
        edge = await start_edge(heartbeat_after_s=0.1 if is_begun else 50, **fakes.addresses)
        fakes.asr.proceed.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(await form_request(edge, quiet))
        await fakes.asr.said.wait()
        if is_begun:
            await reader.readuntil(b"\r\n\r\n")
        writer.close()
        async with asyncio.timeout(1):
            await fakes.asr.ended.wait()


async def form_request(edge: Edge, content: bytes, version: str = "1.1") -> bytes:
    """A transcription as it is sent."""
    form = form_of(content)()
    body = await form.as_bytes()
    return (
        f"POST /v1/transcribe HTTP/{version}\r\nHost: x\r\nAuthorization: Bearer {edge.key}\r\n"
        f"Content-Type: {form.content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def sent_and_ended(edge: Edge, request: bytes) -> bytes:
    """Send it, end this side of the connection, and return all that comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    writer.write(request)
    writer.write_eof()
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer


async def test_the_callers_request_id_comes_back_and_reaches_the_services(
    edge: Edge, fakes: FakeServices, quiet: bytes
) -> None:
    answer = await edge.transcribe(quiet, headers={"X-Request-Id": "mine-1"})
    assert answer.headers["X-Request-Id"] == "mine-1"
    assert fakes.asr.metadata["x-request-id"] == "mine-1"


async def test_a_request_id_that_could_forge_a_log_line_is_replaced(edge: Edge) -> None:
    answer = await edge.request("GET", "/health", headers={"X-Request-Id": "a b\tc"})
    assert " " not in answer.headers["X-Request-Id"]


@pytest.mark.parametrize("path", ["/v1/transcribe", "/health", "/nowhere"])
async def test_a_preflight_is_answered_everywhere(edge: Edge, path: str) -> None:
    answer = await edge.request("OPTIONS", path, headers={"Origin": "https://a.example"})
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]


async def test_a_preflight_allows_the_headers_it_asks_for(edge: Edge) -> None:
    asked = "authorization,x-requested-with"
    answer = await edge.request("OPTIONS", "/v1/transcribe", headers={"Access-Control-Request-Headers": asked})
    assert answer.headers["Access-Control-Allow-Headers"] == asked


async def test_the_allowed_origin_is_a_setting_and_stands_on_errors_too(
    fakes: FakeServices, start_edge: StartEdge
) -> None:
    edge = await start_edge(cors_origin="https://a.example", **fakes.addresses)
    answer = await edge.request("GET", "/nowhere")
    assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"


async def test_models_are_the_contracts_four_and_then_what_recognition_has(edge: Edge) -> None:
    models = (await edge.request("GET", "/v1/models")).json["models"]
    assert [(m["id"], m["name"], m["languages"], m["speed"]) for m in models[:4]] == CONTRACT_MODELS
    assert [m["available"] for m in models] == [False] * 4 + [True]
    assert (models[4]["id"], models[4]["languages"], models[4]["speed"]) == ("fake-en", 1, "fast")
    assert list(models[0]) == ["id", "name", "languages", "speed", "description", "available"]


async def test_a_model_of_the_contract_that_is_loaded_is_listed_once_and_available(
    edge: Edge, fakes: FakeServices
) -> None:
    fakes.asr.models.append(asr_pb2.Model(id="small", name="other", languages=["en", "de"], available=True))
    models = (await edge.request("GET", "/v1/models")).json["models"]
    assert [m["available"] for m in models if m["id"] == "small"] == [True]
    assert [(m["id"], m["name"], m["languages"], m["speed"]) for m in models[:4]] == CONTRACT_MODELS


async def test_whisper_base_stands_behind_the_contracts_models(edge: Edge, fakes: FakeServices) -> None:
    known = list(LANGUAGES)
    base = asr_pb2.Model(id="base", name="Whisper Base", languages=known, speed=asr_pb2.SPEED_VERY_FAST, available=True)
    fakes.asr.models = [base]
    models = (await edge.request("GET", "/v1/models")).json["models"]
    assert [m["id"] for m in models] == [id for id, *_ in CONTRACT_MODELS] + ["base"]
    assert (models[4]["name"], models[4]["languages"], models[4]["available"]) == ("Whisper Base", 99, True)


async def test_models_are_listed_while_recognition_is_down(start_edge: StartEdge) -> None:
    edge = await start_edge(asr_address="127.0.0.1:1")
    answer = await edge.request("GET", "/v1/models")
    assert answer.status == 200
    assert [m["available"] for m in answer.json["models"]] == [False] * 4


async def test_languages_are_codes_with_lower_case_english_names(edge: Edge) -> None:
    languages = (await edge.request("GET", "/v1/languages")).json["languages"]
    assert {"code": "en", "name": "english"} in languages
    assert {"code": "es", "name": "spanish"} in languages
    assert len(languages) >= 99
    assert all(list(entry) == ["code", "name"] and entry["name"].islower() for entry in languages)


async def test_health_without_a_gpu(edge: Edge) -> None:
    answer = await edge.request("GET", "/health")
    assert answer.status == 200
    assert answer.json == {"status": "ok", "gpu_available": False, "gpu_name": None, "gpu_memory_mb": 0}


async def test_health_names_the_gpu(edge: Edge, fakes: FakeServices) -> None:
    fakes.asr.device = asr_pb2.Device(kind="cuda", name="NVIDIA A100", memory_mib=8188)
    answer = await edge.request("GET", "/health")
    assert answer.json == {
        "status": "ok",
        "gpu_available": True,
        "gpu_name": "NVIDIA A100",
        "gpu_memory_mb": 8188,
    }


@pytest.mark.parametrize("part", ["diarize_address", "summarize_address"])
async def test_health_is_degraded_without_a_part_that_only_some_need(
    fakes: FakeServices, start_edge: StartEdge, part: str
) -> None:
    edge = await start_edge(**{**fakes.addresses, part: "127.0.0.1:1"})
    answer = await edge.request("GET", "/health")
    assert (answer.status, answer.json["status"]) == (200, "degraded")


async def test_health_is_unavailable_without_recognition(fakes: FakeServices, start_edge: StartEdge) -> None:
    edge = await start_edge(**{**fakes.addresses, "asr_address": "127.0.0.1:1"})
    answer = await edge.request("GET", "/health")
    assert (answer.status, answer.json["status"]) == (503, "unavailable")
    assert answer.json["error"]
    assert answer.json["gpu_available"] is False
    assert int(answer.headers["Retry-After"]) > 0


async def test_health_is_unavailable_while_no_model_is_loaded(edge: Edge, fakes: FakeServices) -> None:
    fakes.asr.models[0].available = False
    answer = await edge.request("GET", "/health")
    assert (answer.status, answer.json["status"]) == (503, "unavailable")
