"""Keys on the wire: one that is there but opens nothing is refused, and never taken for none."""

import aiohttp
import pytest

from tests.edge.conftest import Edge, form_of
from tests.edge.metering.conftest import OpenAccount


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic eDp5", "Bearer a b", "Bearer x", "Bearer a.b.c"])
@pytest.mark.parametrize("path", ["transcribe", "summarize", "stream", "usage"])
async def test_a_key_that_is_none_is_refused_on_every_path(
    header: str, path: str, proxied: Edge, http: aiohttp.ClientSession, quiet: bytes
) -> None:
    method = "POST" if path in ("transcribe", "summarize") else "GET"
    data = form_of(quiet) if path == "transcribe" else None
    url = f"{proxied.url}/v1/{path}"
    async with http.request(method, url, data=data, headers={"Authorization": header}) as refused:
        assert refused.status == 401
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert (await refused.json())["code"] == "UNAUTHENTICATED"


@pytest.mark.parametrize("path", ["models", "languages", "../health"])
async def test_what_needs_no_key_ignores_a_bad_one(path: str, proxied: Edge, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{proxied.url}/v1/{path}", headers={"Authorization": "Bearer x"}) as answer:
        assert answer.status == 200


async def test_a_bad_key_is_told_before_a_bad_request(proxied: Edge, http: aiohttp.ClientSession) -> None:
    url = f"{proxied.url}/v1/transcribe"
    async with http.post(url, data="x", headers={"Authorization": "Bearer x", "Content-Type": "text/plain"}) as refused:
        assert refused.status == 401


async def test_a_hundred_kilobytes_of_header_are_refused(proxied: Edge, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{proxied.url}/v1/usage", headers={"Authorization": "Bearer " + "x" * 100_000}) as refused:
        assert refused.status == 400
        assert (await refused.json())["error"] == "A line of the request's head is too long."


async def test_a_key_of_eight_kilobytes_is_refused(proxied: Edge, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{proxied.url}/v1/usage", headers={"Authorization": "Bearer " + "x" * 8_000}) as refused:
        assert refused.status == 401


async def test_the_scheme_is_read_in_any_case(proxied: Edge, open_account: OpenAccount) -> None:
    account = await open_account("free")
    answer = await proxied.request("GET", "/v1/usage", headers={"Authorization": f"bearer {account.key}"})
    assert answer.status == 200


async def test_a_browser_may_send_an_idempotency_key_and_read_what_it_cost(proxied: Edge) -> None:
    preflight = await proxied.request("OPTIONS", "/v1/transcribe")
    assert "Idempotency-Key" in preflight.headers["Access-Control-Allow-Headers"]
    assert "X-Credits-Charged" in preflight.headers["Access-Control-Expose-Headers"]
