"""`python -m services.edge.accounts` as a process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.edge.accounts.authentication import Authenticator
from services.edge.accounts.registry import Registry
from services.edge.metering.store import Store
from services.edge.metering.store import account as subject_of

Call = Callable[..., subprocess.CompletedProcess[str]]
Ask = Callable[..., Any]


@pytest.fixture
def call(store: Store, store_dir: Path, tmp_path: Path) -> Call:
    """Runs a command as a shell would; the signing key is the test's own."""
    (tmp_path / "valkey.sock").symlink_to(store_dir / "valkey.sock")

    def call(*arguments: str, stdout: int = subprocess.PIPE, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DATA_DIR": str(tmp_path), "REDIS_URL": "", **settings}
        command = [sys.executable, "-m", "services.edge.accounts", *arguments]
        return subprocess.run(command, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=30)

    return call


@pytest.fixture
def ask(call: Call) -> Ask:
    """Runs a command that has to succeed, with --json; returns the answer."""

    def ask(*arguments: str) -> Any:
        done = call(*arguments, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    return ask


async def test_an_account_is_made_with_a_key_that_opens_it(ask: Ask, authenticator: Authenticator) -> None:
    made = ask("create", "--tier", "paid", "--credits", "7")
    assert set(made) == {"account", "tier", "credits", "key"}
    assert (made["tier"], made["credits"]) == ("paid", 7)
    assert (await authenticator.authenticate(made["key"])).subject.name == made["account"]
    assert ask("show", made["account"]) == {
        "account": made["account"],
        "tier": "paid",
        "credits": 7,
        "held": 0,
        "minutes_this_month": 0,
        "running": 0,
    }


def test_a_person_is_told_the_same_in_words(call: Call) -> None:
    made = call("create", "--tier", "free", "--name", "anna")
    assert made.returncode == 0
    assert "anna (free, 0 credits)" in made.stdout
    assert "shown this once" in made.stdout
    assert "tier                free" in call("show", "anna").stdout


def test_credits_are_added_and_every_entry_is_in_the_ledger(ask: Ask, call: Call) -> None:
    name = ask("create", "--tier", "paid", "--credits", "7")["account"]
    assert ask("grant", name, "3") == {"account": name, "credits": 10}
    entries = ask("ledger", name)["entries"]
    assert [(entry["kind"], entry["granted"], entry["balance"]) for entry in entries] == [
        ("grant", 7, 7),
        ("grant", 3, 3),
    ]
    assert "balance +3  granted +3" in call("ledger", name).stdout


def test_a_tier_is_changed_and_credits_stay(ask: Ask) -> None:
    name = ask("create", "--tier", "paid", "--credits", "7")["account"]
    ask("set-tier", name, "free")
    assert (ask("show", name)["tier"], ask("show", name)["credits"]) == ("free", 7)


async def test_keys_are_made_listed_and_revoked(ask: Ask, authenticator: Authenticator) -> None:
    name = ask("create", "--tier", "free")["account"]
    made = ask("key", "new", name, "--expires-in-days", "2")
    await authenticator.authenticate(made["key"])
    first, second = ask("key", "list", name)["keys"]
    assert (first["expires"], first["revoked"]) == (None, None)
    assert second["expires"] > second["created"]
    ask("key", "revoke", name, second["key"])
    assert [key["revoked"] is not None for key in ask("key", "list", name)["keys"]] == [False, True]


@pytest.mark.parametrize("credits", ["-1", "0", "1.5", "x", "", "1000000001", "nan"])
async def test_credits_that_are_none_are_refused_and_nothing_is_written(
    credits: str, call: Call, registry: Registry
) -> None:
    name = await registry.create("paid", 7)
    refused = call("grant", name, credits)
    assert refused.returncode == 1
    assert len(refused.stderr.strip().splitlines()) == 1
    assert [entry.changes["granted"] async for entry in registry.ledger(name)] == [7]


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "nobody"),
        ("ledger", "nobody"),
        ("grant", "nobody", "1"),
        ("set-tier", "nobody", "free"),
        ("key", "new", "nobody"),
        ("key", "list", "nobody"),
        ("key", "revoke", "nobody", "x"),
        ("create", "--tier", "free", "--name", "a b"),
        ("create", "--tier", "free", "--name", "{x}"),
        ("create", "--tier", "free", "--name", ""),
        ("create", "--tier", "paid", "--credits", "-1"),
    ],
)
async def test_what_cannot_be_done_is_a_sentence(arguments: tuple[str, ...], call: Call, registry: Registry) -> None:
    refused = call(*arguments, "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["error"].endswith(".")
    assert not await registry.names()


@pytest.mark.parametrize("days", ["0", "-1", "1.5", "99999999999999"])
async def test_a_key_that_expires_at_no_time_is_refused_and_not_made(days: str, call: Call, registry: Registry) -> None:
    name = await registry.create("free")
    refused = call("key", "new", name, "--expires-in-days", days)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert await registry.keys(name) == []


async def test_an_audit_names_every_account_that_does_not_agree_and_fails(ask: Ask, call: Call, store: Store) -> None:
    for name in ("anna", "bert", "cora"):
        ask("create", "--tier", "paid", "--credits", "7", "--name", name)
    assert ask("audit") == {"ok": True, "accounts": 3, "discrepancies": []}
    await store.redis.hdel(subject_of("anna").key("state"), "tier")
    await store.redis.hincrby(subject_of("cora").key("state"), "written_off", 2)
    failed = call("audit", "--json")
    assert failed.returncode == 1
    assert json.loads(failed.stdout) == {
        "ok": False,
        "accounts": 3,
        "discrepancies": [
            {"account": "anna", "figure": "state", "stored": None, "expected": None},
            {"account": "cora", "figure": "written_off", "stored": 2, "expected": 0},
        ],
    }
    assert call("audit").stdout.splitlines() == [
        "anna: state cannot be read",
        "cora: written_off is 2, not 0",
        "3 accounts, 2 discrepancies.",
    ]


def test_a_name_that_is_taken_is_refused(ask: Ask, call: Call) -> None:
    ask("create", "--tier", "free", "--name", "anna")
    assert "exists already" in call("create", "--tier", "paid", "--name", "anna").stderr
    assert ask("show", "anna")["tier"] == "free"


def test_without_a_store_it_says_how_to_start_one(call: Call, tmp_path: Path) -> None:
    refused = call("audit", DATA_DIR=str(tmp_path / "none"))
    assert refused.returncode == 1
    assert "make run" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


async def test_the_development_key_is_kept_while_it_opens_its_account(
    ask: Ask, authenticator: Authenticator, store: Store, registry: Registry
) -> None:
    path = Path(ask("development-key")["path"])
    key = path.read_text().strip()
    assert path.stat().st_mode & 0o777 == 0o600
    assert (await authenticator.authenticate(key)).tier == "paid"
    ask("development-key")
    assert path.read_text().strip() == key
    await store.redis.flushall()
    ask("development-key")
    assert path.read_text().strip() != key
    assert len(await registry.names()) == 1


def test_a_bad_setting_is_a_sentence(call: Call) -> None:
    refused = call("audit", TRUSTED_PROXY_HOPS="x")
    assert refused.returncode == 1
    assert "TRUSTED_PROXY_HOPS" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_who_reads_only_the_beginning_of_a_long_answer_is_not_shown_an_error(call: Call, ask: Ask) -> None:
    name = ask("create", "--tier", "free")["account"]
    reading, writing = os.pipe()
    os.close(reading)
    done = call("ledger", name, "--json", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
