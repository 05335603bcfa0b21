"""Which keys open an account, and which do not."""

import asyncio
import base64
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.common.errors import Reason, SttError
from services.edge.accounts.authentication import Authenticator
from services.edge.accounts.registry import Registry
from services.edge.accounts.signing import SIGNING_KEYS, Signer
from services.edge.metering.store import REPLY_TIMEOUT_S, Store, StoreDownError
from services.edge.settings import EdgeSettings

GENUINE = {"iss": "stt-service", "aud": "stt-service"}


async def refused(authenticator: Authenticator, key: str) -> str:
    """Return why a key is refused."""
    with pytest.raises(SttError) as caught:
        await authenticator.authenticate(key)
    assert caught.value.reason is Reason.UNAUTHENTICATED
    assert not key or key not in caught.value.message
    return caught.value.message


@pytest.fixture
async def genuine(registry: Registry, signer: Signer, account: str) -> dict[str, Any]:
    """The claims of a key that opens the account."""
    key = await registry.new_key(account, signer)
    return jwt.decode(key, options={"verify_signature": False})


async def test_a_key_opens_its_account(
    authenticator: Authenticator, registry: Registry, signer: Signer, account: str
) -> None:
    caller = await authenticator.authenticate(await registry.new_key(account, signer))
    assert (caller.subject.name, caller.tier) == (account, "paid")


async def test_the_store_says_the_tier_not_the_key(
    authenticator: Authenticator, registry: Registry, signer: Signer, account: str
) -> None:
    key = await registry.new_key(account, signer)
    await registry.set_tier(account, "free")
    assert (await authenticator.authenticate(key)).tier == "free"


async def test_a_revoked_key_opens_nothing_on_any_edge_from_the_next_request_on(
    store: Store, authenticator: Authenticator, registry: Registry, signer: Signer, account: str
) -> None:
    key, other = await registry.new_key(account, signer), await registry.new_key(account, signer)
    async with Authenticator(store, EdgeSettings()) as another_edge:
        await authenticator.authenticate(key)
        await another_edge.authenticate(key)
        revoked = jwt.decode(key, options={"verify_signature": False})["jti"]
        await registry.revoke_key(account, revoked)
        for edge in (authenticator, another_edge):
            assert "revoked" in await refused(edge, key)
            await edge.authenticate(other)


@pytest.mark.parametrize("key", ["", "x", "a.b.c", "é", "\udcff\udcfe", "a.b", "." * 10, "x" * 100_000])
async def test_garbage_is_refused(key: str, authenticator: Authenticator) -> None:
    await refused(authenticator, key)


async def test_a_key_without_a_signature_is_refused(authenticator: Authenticator, genuine: dict[str, Any]) -> None:
    await refused(authenticator, jwt.encode(genuine, None, "none"))


async def test_a_key_without_a_signature_that_names_a_genuine_signer_is_refused(
    authenticator: Authenticator, genuine: dict[str, Any], signer: Signer
) -> None:
    await refused(authenticator, jwt.encode(genuine, None, "none", {"kid": signer.kid}))


async def test_a_key_signed_with_the_public_key_as_a_secret_is_refused(
    authenticator: Authenticator, genuine: dict[str, Any], signer: Signer
) -> None:
    await refused(authenticator, jwt.encode(genuine, signer.public_key, "HS256", {"kid": signer.kid}))


async def test_a_key_of_an_unknown_signer_is_refused(authenticator: Authenticator, genuine: dict[str, Any]) -> None:
    assert "signed by somebody unknown" in await refused(authenticator, Signer.in_memory().sign(genuine))


async def test_a_key_that_names_a_genuine_signer_is_refused_when_another_signed_it(
    authenticator: Authenticator, genuine: dict[str, Any], signer: Signer
) -> None:
    forged = jwt.encode(genuine, Ed25519PrivateKey.generate(), "EdDSA", {"kid": signer.kid})
    await refused(authenticator, forged)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"exp": 1}, "expired"),
        ({"aud": "somebody-else"}, "not valid"),
        ({"iss": "somebody-else"}, "issued by somebody unknown"),
        ({"sub": None}, "not valid"),
        ({"sub": 7}, "not valid"),
        ({"sub": "nobody"}, "does not exist"),
        ({"sub": "{x}"}, "does not exist"),
        ({"jti": None}, "not valid"),
        ({"jti": "another"}, "unknown"),
        ({"jti": "\ud800"}, "not valid"),
    ],
)
async def test_a_genuinely_signed_key_is_refused_when_it_says(
    change: dict[str, Any], reason: str, authenticator: Authenticator, genuine: dict[str, Any], signer: Signer
) -> None:
    claims = {name: value for name, value in (genuine | change).items() if value is not None}
    assert reason in await refused(authenticator, signer.sign(claims))


async def test_a_tampered_key_is_refused(
    authenticator: Authenticator, registry: Registry, signer: Signer, account: str
) -> None:
    header, payload, signature = (await registry.new_key(account, signer)).split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    other = await registry.create("paid", 1)
    forged = base64.urlsafe_b64encode(json.dumps(claims | {"sub": other}).encode()).decode().rstrip("=")
    await refused(authenticator, f"{header}.{forged}.{signature}")


async def test_an_expired_key_is_refused(
    authenticator: Authenticator, registry: Registry, signer: Signer, account: str
) -> None:
    assert "expired" in await refused(authenticator, await registry.new_key(account, signer, expires_in_s=-1))


async def test_a_flood_of_unknown_signers_is_a_few_questions_to_the_store_and_keeps_no_genuine_key_out(
    store: Store,
    authenticator: Authenticator,
    registry: Registry,
    signer: Signer,
    account: str,
    genuine: dict[str, Any],
) -> None:
    await authenticator.authenticate(signer.sign(genuine))
    before = await _questions(store)
    started_s = time.monotonic()
    await asyncio.gather(*(refused(authenticator, Signer.in_memory().sign(genuine)) for _ in range(200)))
    new = Signer.in_memory()
    await authenticator.authenticate(await registry.new_key(account, new))
    assert await _questions(store) - before <= 10 * (time.monotonic() - started_s) + 3


async def _questions(store: Store) -> int:
    return int((await store.redis.info("commandstats"))["cmdstat_hgetall"]["calls"])


async def test_a_store_that_hangs_is_waited_for_once_by_all_who_ask_at_once(
    store: Store, authenticator: Authenticator, registry: Registry, signer: Signer, account: str
) -> None:
    key = await registry.new_key(account, signer)
    server = psutil.Process(int((await store.redis.info("server"))["process_id"]))
    server.suspend()
    try:
        started_s = time.monotonic()
        errors = await asyncio.gather(*(authenticator.authenticate(key) for _ in range(10)), return_exceptions=True)
        assert time.monotonic() - started_s < 4 * REPLY_TIMEOUT_S
    finally:
        server.resume()
    assert {type(error) for error in errors} == {StoreDownError}
    await authenticator.authenticate(key)


async def test_no_key_lies_in_the_store(
    store: Store, registry: Registry, signer: Signer, account: str, genuine: dict[str, Any]
) -> None:
    key = await registry.new_key(account, signer)
    signature = key.rpartition(".")[2].encode()
    for name in await store.redis.keys("*"):
        assert signature not in await store.redis.dump(name)
    assert set(await store.redis.hgetall(SIGNING_KEYS)) == {signer.kid.encode()}


@pytest.mark.parametrize("change", [lambda path: path.write_text("x"), lambda path: path.write_bytes(b"")])
def test_a_damaged_signing_key_is_an_error_not_a_new_key(change: Callable[[Any], Any], tmp_path: Any) -> None:
    Signer.from_folder(tmp_path)
    (file,) = tmp_path.iterdir()
    change(file)
    with pytest.raises(OSError, match="no Ed25519 key"):
        Signer.from_folder(tmp_path)


def test_the_signing_key_is_made_once_and_is_its_owners_alone(tmp_path: Any) -> None:
    first, second = Signer.from_folder(tmp_path / "new"), Signer.from_folder(tmp_path / "new")
    (file,) = (tmp_path / "new").iterdir()
    assert first.kid == second.kid
    assert file.stat().st_mode & 0o777 == 0o600


def test_all_who_make_the_signing_key_at_once_have_the_same(tmp_path: Any) -> None:
    with ThreadPoolExecutor(16) as executor:
        signers = list(executor.map(Signer.from_folder, [tmp_path / "new"] * 16))
    assert len({signer.kid for signer in signers}) == 1
    assert len(list((tmp_path / "new").iterdir())) == 1
