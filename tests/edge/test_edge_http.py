"""What every answer of the edge has, and the paths that only read."""

import asyncio
import json

import pytest
from stt.asr.v1 import asr_pb2

from services.common.errors import Reason
from services.common.languages import LANGUAGES
from services.edge.errors import STATUS
from tests.edge.conftest import Edge, FakeServices, StartEdge

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
