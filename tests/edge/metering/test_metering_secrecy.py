"""A key appears nowhere but in the request."""

import asyncio
import os
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.edge.conftest import FakeServices, form_of
from tests.edge.metering.conftest import OpenAccount


@pytest.mark.parametrize("fmt", ["console", "json"])
async def test_no_log_line_has_a_key(
    fmt: str,
    fakes: FakeServices,
    store_dir: Path,
    tmp_path: Path,
    open_account: OpenAccount,
    http: aiohttp.ClientSession,
    unused_tcp_port: int,
    quiet: bytes,
) -> None:
    account = await open_account(credits=9)
    settings = {f"{name.upper()}": address for name, address in fakes.addresses.items()}
    settings |= {"DATA_DIR": str(store_dir), "REDIS_URL": "", "EDGE_SPOOL_DIR": str(tmp_path)}
    settings |= {"EDGE_PORT": str(unused_tcp_port), "LOG_LEVEL": "DEBUG", "LOG_FORMAT": fmt}
    edge = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.edge"), env={**os.environ, **settings}, stderr=asyncio.subprocess.PIPE
    )
    assert edge.stderr is not None
    lines = [await edge.stderr.readline()]
    while b"ready" not in lines[-1]:
        lines.append(await edge.stderr.readline())
    url, bad = f"http://127.0.0.1:{unused_tcp_port}/v1", account.key[:-6] + "AAAAAA"
    for key in (account.key, bad):
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "a"}
        async with http.post(f"{url}/transcribe", data=form_of(quiet), headers=headers) as answer:
            await answer.read()
        for query in ({"token": key}, {"token": key, "language": "xx"}):
            async with http.get(f"{url}/stream", params=query) as answer:
                await answer.read()
        async with http.get(f"{url}/usage", headers={"Authorization": key}) as answer:
            assert answer.status == 401
    async with http.ws_connect(f"{url}/stream", params={"token": account.key}) as socket:
        await socket.send_str("no JSON")
        await socket.receive()
    edge.terminate()
    log = b"".join(lines) + await edge.stderr.read()
    assert await edge.wait() == 0
    assert b"/v1/stream" in log
    for part in (*account.key.split("."), *bad.split(".")):
        assert part.encode() not in log
