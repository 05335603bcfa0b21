"""POST /v1/summarize."""

import json

import pytest

from tests.edge.conftest import Answer, Edge, FakeServices, StartEdge


async def summarize(edge: Edge, **content: object) -> Answer:
    return await edge.request("POST", "/v1/summarize", json=content)


async def test_the_answer_has_the_contracts_keys_in_its_order(edge: Edge) -> None:
    answer = await summarize(edge, text="Hello there.")
    assert answer.status == 200
    assert list(answer.json.items()) == [
        ("summary", "STYLE_BRIEF Hello there."),
        ("style", "brief"),
        ("model", "fake-summary"),
        ("text", "STYLE_BRIEF Hello there."),
    ]


@pytest.mark.parametrize(
    ("style", "runs"),
    [
        ("brief", "STYLE_BRIEF"),
        ("detailed", "STYLE_DETAILED"),
        ("action_items", "STYLE_ACTION_ITEMS"),
        ("bullet_points", "STYLE_BULLET_POINTS"),
        ("bullets", "STYLE_BULLET_POINTS"),
        ("headline", "STYLE_HEADLINE"),
    ],
)
async def test_every_style_is_echoed_as_it_was_asked_for(edge: Edge, style: str, runs: str) -> None:
    answer = (await summarize(edge, text="Hello.", style=style)).json
    assert answer["style"] == style
    assert answer["summary"].startswith(runs)


async def test_warnings_are_added(edge: Edge, fakes: FakeServices) -> None:
    fakes.summarize.warnings = ["This is not English."]
    assert (await summarize(edge, text="Hallo.")).json["warnings"] == ["This is not English."]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({}, "text"),
        ({"text": ""}, "text"),
        ({"text": " \n\t"}, "text"),
        ({"text": None}, "text"),
        ({"text": 5}, "text"),
        ({"text": ["a"]}, "text"),
        ({"text": "x", "style": "haiku"}, "action_items"),
        ({"text": "x", "style": 1}, "action_items"),
        ({"text": "x", "style": ["brief"]}, "action_items"),
        ({"text": "x" * 1_000_001}, "1,000,000"),
        ({"text": "x" * 5_000_000}, "1,000,000"),
        ([], "object"),
        ("text", "object"),
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_wrong_content_is_a_400_that_says_what_is_allowed(edge: Edge, content: object, says: str) -> None:
    answer = await edge.request("POST", "/v1/summarize", json=content)
    assert answer.status == 400
    assert says in answer.json["error"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"text": "x"', b'{"text": "\xff"}', b"[" * 200_000, b"text=hello", b"\xff\xfe{\x00}\x00"]
)
async def test_a_body_that_is_not_json_in_utf_8_is_a_400(edge: Edge, body: bytes) -> None:
    answer = await edge.request("POST", "/v1/summarize", data=body, headers={"Content-Type": "application/json"})
    assert answer.status == 400
    assert answer.json["error"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_another_content_type_is_a_400_that_names_the_right_one(edge: Edge, content_type: str) -> None:
    answer = await edge.request("POST", "/v1/summarize", data=b'{"text": "x"}', headers={"Content-Type": content_type})
    assert answer.status == 400
    assert "application/json" in answer.json["error"]


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
async def test_json_may_name_its_charset(edge: Edge, content_type: str) -> None:
    answer = await edge.request(
        "POST", "/v1/summarize", data=json.dumps({"text": "Grüße"}), headers={"Content-Type": content_type}
    )
    assert answer.json["summary"].endswith("Grüße")


async def test_a_million_characters_of_any_script_are_taken(edge: Edge) -> None:
    assert (await summarize(edge, text="𝄞" * 1_000_000)).status == 200


@pytest.mark.parametrize("text", ["a\x00b\x1b[31m", "half \ud800 a pair", "\ufeffmark", "\u202eright to left"])
async def test_odd_characters_reach_the_service_as_text(edge: Edge, text: str) -> None:
    assert (await summarize(edge, text=text)).status == 200


async def test_a_body_beyond_all_need_is_a_413(edge: Edge) -> None:
    answer = await edge.request(
        "POST", "/v1/summarize", data=b" " * (17 * 1024 * 1024), headers={"Content-Type": "application/json"}
    )
    assert answer.status == 413


async def test_a_service_that_is_down_is_a_503_with_retry_after(start_edge: StartEdge) -> None:
    edge = await start_edge(summarize_address="127.0.0.1:1")
    answer = await summarize(edge, text="Hello.")
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0
