"""Accounts and their keys from a shell: `python -m services.edge.accounts --help`.

It works on the store that the edge's settings name, without any on the one of a `make run` in this folder. With --json,
an error is `{"error": ...}`. The exit status is 0, 1 for an error and 2 for a command that is not one.
"""

import argparse
import asyncio
import json
import os
import sys

from services.common.errors import SttError
from services.common.settings import read
from services.edge.accounts.commands import Commands, Outcome
from services.edge.metering.store import Store, StoreDownError, connect
from services.edge.metering.tiers import ACCOUNT_TIERS
from services.edge.settings import EdgeSettings

_NO_STORE = "The account store cannot be reached: `make run` starts one, REDIS_URL names another."


def _parser() -> argparse.ArgumentParser:
    json_option = argparse.ArgumentParser(add_help=False)
    json_option.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="answer with JSON")
    account = argparse.ArgumentParser(add_help=False, parents=[json_option])
    account.add_argument("account", help="the account's name")

    parser = argparse.ArgumentParser("python -m services.edge.accounts", description=__doc__, parents=[json_option])
    commands = parser.add_subparsers(required=True, metavar="command")
    create = commands.add_parser("create", parents=[json_option], help="make an account and its first key")
    create.add_argument("--tier", choices=ACCOUNT_TIERS, required=True)
    create.add_argument("--credits", default="0", help="what it may spend if it is paid; 1 is a minute of audio")
    create.add_argument("--name", help="its name, the sub of keys of an external issuer; else one is made up")
    create.set_defaults(command="create")
    grant = commands.add_parser("grant", parents=[account], help="add credits")
    grant.add_argument("credits")
    grant.set_defaults(command="grant")
    set_tier = commands.add_parser("set-tier", parents=[account], help="change the tier; credits stay")
    set_tier.add_argument("tier", choices=ACCOUNT_TIERS)
    set_tier.set_defaults(command="set_tier")
    keys = commands.add_parser("key", help="make, list and revoke keys").add_subparsers(required=True, metavar="what")
    new = keys.add_parser("new", parents=[account], help="make another key, shown once")
    new.add_argument("--expires-in-days", help="days until it opens nothing any more; without it never")
    new.set_defaults(command="key_new")
    keys.add_parser("list", parents=[account], help="list keys by number").set_defaults(command="key_list")
    revoke = keys.add_parser("revoke", parents=[account], help="make a key open nothing, at once and everywhere")
    revoke.add_argument("key", help="the key's number (its jti), as `key list` shows it")
    revoke.add_argument("--foreign", action="store_true", help="it is an external issuer's, who numbers his own")
    revoke.set_defaults(command="key_revoke")
    commands.add_parser("show", parents=[account], help="how an account stands").set_defaults(command="show")
    commands.add_parser("ledger", parents=[account], help="all that changed it").set_defaults(command="ledger")
    audit = commands.add_parser("audit", parents=[json_option], help="compute every account again from its ledger")
    audit.set_defaults(command="audit")
    development = commands.add_parser("development-key", parents=[json_option], help="where the key of make run is")
    development.set_defaults(command="development_key")
    return parser


async def _run(arguments: argparse.Namespace) -> Outcome:
    settings = read(EdgeSettings)
    async with connect(settings.redis_url, settings.data_dir) as redis:
        commands = Commands(Store(redis), settings)
        outcome: Outcome = await getattr(commands, arguments.command)(arguments)
        return outcome


def main() -> None:
    """Run one command."""
    arguments = _parser().parse_args()
    is_json = getattr(arguments, "json", False)
    try:
        outcome = asyncio.run(_run(arguments))
    except (SttError, OSError, ValueError) as error:
        message = _NO_STORE if isinstance(error, StoreDownError) else str(error)
        print(json.dumps({"error": message}) if is_json else message, file=sys.stdout if is_json else sys.stderr)
        raise SystemExit(1) from None
    try:
        print(json.dumps(outcome.content) if is_json else "\n".join(outcome.lines), flush=True)
    except BrokenPipeError:  # whoever it was piped to has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(0 if outcome.is_ok else 1)


if __name__ == "__main__":
    main()
