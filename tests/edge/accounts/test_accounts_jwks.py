"""Keys of an external issuer: an identity provider that publishes its public keys."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from services.common.errors import Reason, SttError
from services.edge.accounts.authentication import Authenticator
from services.edge.accounts.registry import Registry
from services.edge.metering.store import Store
from services.edge.settings import EdgeSettings

ISSUER, AUDIENCE = "https://id.example", "speech"
COOLDOWN_S = 0.2


class Provider:
    """An identity provider: signs with its newest key, publishes all of them, or fails."""

    def __init__(self) -> None:
        self.keys: dict[str, rsa.RSAPrivateKey] = {}
        self.answer: web.Response | None = None
        self.asked = 0
        self.proceed = asyncio.Event()
        self.proceed.set()
        self.heard = asyncio.Condition()
        self.rotate()

    def rotate(self) -> None:
        self.kid = f"key-{len(self.keys) + 1}"
        self.keys[self.kid] = rsa.generate_private_key(65_537, 2048)

    def sign(self, account: str, algorithm: str = "RS256", key: Any = None, **claims: Any) -> str:
        content = {"iss": ISSUER, "aud": AUDIENCE, "sub": account, "exp": time.time() + 60, "jti": "7"} | claims
        content = {name: value for name, value in content.items() if value is not None}
        return jwt.encode(content, key or self.keys[self.kid], algorithm, {"kid": self.kid})

    async def publish(self, request: web.Request) -> web.Response:
        async with self.heard:
            self.asked += 1
            self.heard.notify_all()
        await self.proceed.wait()
        if self.answer is not None:
            return self.answer
        keys = [json.loads(RSAAlgorithm.to_jwk(key.public_key())) | {"kid": kid} for kid, key in self.keys.items()]
        return web.json_response({"keys": keys})


@pytest.fixture
async def provider() -> Provider:
    return Provider()


@pytest.fixture
async def url(provider: Provider) -> AsyncIterator[str]:
    """Where it publishes its keys."""
    app = web.Application()
    app.router.add_get("/jwks", provider.publish)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
    await runner.cleanup()


@pytest.fixture
async def authenticator(store: Store, url: str) -> AsyncIterator[Authenticator]:
    """What an edge that trusts the provider asks."""
    settings = EdgeSettings(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwks_url=url, jwks_cooldown_s=COOLDOWN_S)
    async with Authenticator(store, settings) as authenticator:
        yield authenticator


async def refused(authenticator: Authenticator, key: str) -> SttError:
    with pytest.raises(SttError) as caught:
        await authenticator.authenticate(key)
    return caught.value


async def test_a_key_of_the_provider_opens_the_account_of_its_subject(
    authenticator: Authenticator, provider: Provider, registry: Registry
) -> None:
    await registry.create("free", name="anna@example.org")
    caller = await authenticator.authenticate(provider.sign("anna@example.org"))
    assert (caller.subject.name, caller.tier) == ("anna@example.org", "free")


async def test_a_subject_without_an_account_is_refused(authenticator: Authenticator, provider: Provider) -> None:
    assert (await refused(authenticator, provider.sign("nobody"))).reason is Reason.UNAUTHENTICATED


@pytest.mark.parametrize("claims", [{"exp": None}, {"exp": 1}, {"aud": "other"}, {"nbf": 4_000_000_000}])
async def test_a_key_of_the_provider_is_refused_when_it_says(
    claims: dict[str, Any], authenticator: Authenticator, provider: Provider, account: str
) -> None:
    assert (await refused(authenticator, provider.sign(account, **claims))).reason is Reason.UNAUTHENTICATED


@pytest.mark.parametrize("algorithm", ["HS256", "PS256"])
async def test_an_algorithm_that_is_not_the_providers_is_refused(
    algorithm: str, authenticator: Authenticator, provider: Provider, account: str
) -> None:
    key = b"x" * 32 if algorithm == "HS256" else None
    assert (await refused(authenticator, provider.sign(account, algorithm, key))).reason is Reason.UNAUTHENTICATED


async def test_the_provider_cannot_issue_local_keys(
    authenticator: Authenticator, provider: Provider, account: str
) -> None:
    forged = provider.sign(account, iss="stt-service", aud="stt-service")
    assert (await refused(authenticator, forged)).reason is Reason.UNAUTHENTICATED


async def test_a_new_key_of_the_provider_is_found(
    authenticator: Authenticator, provider: Provider, account: str
) -> None:
    await authenticator.authenticate(provider.sign(account))
    provider.rotate()
    async with asyncio.timeout(5):
        while (await _try(authenticator, provider.sign(account))) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def _try(authenticator: Authenticator, key: str) -> Any:
    try:
        return await authenticator.authenticate(key)
    except SttError:
        return None


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 500},
        {"text": "no JSON"},
        {"text": "[]"},
        {"text": '{"keys": []}'},
        {"text": '{"keys": [5]}'},
        {"text": '{"keys": [{"kty": "oct", "k": "AAAA"}]}'},
        {"text": '{"keys": [{"kty": "oct", "k": "AAAA", "kid": ["a"]}]}'},
        {"text": '{"keys": [{"kty": "oct", "k": "AAAA", "kid": "a", "alg": ["b"]}]}'},
        {"text": "[" * 100_000},
        {"body": bytes(2 << 20)},
    ],
)
async def test_while_the_provider_fails_its_last_keys_are_good(
    answer: dict[str, Any], authenticator: Authenticator, provider: Provider, account: str
) -> None:
    key = provider.sign(account)
    await authenticator.authenticate(key)
    provider.answer = web.Response(**answer)
    before = provider.asked
    provider.rotate()
    async with asyncio.timeout(5):
        while provider.asked == before:  # a key it does not know yet makes it look again
            assert (await refused(authenticator, provider.sign(account))).reason is Reason.UNAUTHENTICATED
            await asyncio.sleep(0.05)
    await authenticator.authenticate(key)


async def test_who_hangs_up_while_a_new_key_is_looked_for_does_not_keep_it_from_others(
    store: Store, url: str, provider: Provider, account: str
) -> None:
    settings = EdgeSettings(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwks_url=url, jwks_cooldown_s=1e-6)
    async with Authenticator(store, settings) as authenticator, asyncio.timeout(5):
        await authenticator.authenticate(provider.sign(account))
        provider.rotate()
        provider.proceed.clear()
        first = asyncio.create_task(authenticator.authenticate(provider.sign(account)))
        async with provider.heard:
            await provider.heard.wait_for(lambda: provider.asked == 2)
        first.cancel()
        await asyncio.wait({first})
        assert first.cancelled()
        provider.proceed.set()
        await authenticator.authenticate(provider.sign(account))
        assert provider.asked == 2


async def test_made_up_signers_do_not_make_it_ask_each_time(
    authenticator: Authenticator, provider: Provider, account: str
) -> None:
    await authenticator.authenticate(provider.sign(account))
    started_s, before = time.monotonic(), provider.asked
    for number in range(100):
        provider.kid = f"made-up-{number}"
        await refused(authenticator, provider.sign(account, key=provider.keys["key-1"]))
    assert provider.asked - before <= (time.monotonic() - started_s) / COOLDOWN_S + 1


async def test_without_the_providers_keys_his_are_unavailable_and_local_ones_work(
    store: Store, provider: Provider, registry: Registry, account: str, signer: Any
) -> None:
    settings = EdgeSettings(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwks_url="http://127.0.0.1:1/jwks")
    async with Authenticator(store, settings) as authenticator:
        error = await refused(authenticator, provider.sign(account))
        assert error.reason is Reason.SERVICE_UNAVAILABLE
        assert error.retryable
        await authenticator.authenticate(await registry.new_key(account, signer))


async def test_a_revoked_key_of_the_provider_is_refused(
    authenticator: Authenticator, provider: Provider, registry: Registry, account: str
) -> None:
    await authenticator.authenticate(provider.sign(account))
    await registry.revoke_key(account, "7", is_foreign=True)
    assert "revoked" in (await refused(authenticator, provider.sign(account))).message
