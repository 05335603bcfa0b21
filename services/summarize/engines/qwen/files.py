"""Where the model's files are, and whether they look whole. Nothing here needs torch or transformers."""

import json
from pathlib import Path

from services.common import hub_cache

MODEL = "qwen2.5-1.5b-instruct"
REPOSITORY = "Qwen/Qwen2.5-1.5B-Instruct"
PATTERNS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
    "*.safetensors",
)
"""The files that are needed, of those that there are."""

_REQUIRED = ("config.json", "tokenizer.json", "tokenizer_config.json")
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"


def find(model_dir: Path | None) -> Path | None:
    """Return the folder of the model's files, whole or not: in `model_dir`, or else in the hub's cache."""
    if model_dir is not None and (folder := model_dir / MODEL).is_dir():
        return folder
    return hub_cache.snapshot(REPOSITORY)


def problem(folder: Path) -> str | None:
    """Return, in a sentence, why the model in a folder cannot be loaded, as far as a quick look shows it."""
    for name in _REQUIRED:
        if not (folder / name).is_file():
            return f"There is no {name}."
    try:
        for name in (*_REQUIRED, *([_INDEX] if (folder / _INDEX).is_file() else [])):
            document = json.loads((folder / name).read_bytes())
            if not isinstance(document, dict):
                return f"{name} is not what it should be."
        shards = set(document["weight_map"].values()) if name == _INDEX else {_WEIGHTS}
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}."
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{name} is not what it should be."
    absent = sorted(shard for shard in shards if not (folder / shard).is_file())
    return f"There is no {absent[0]}." if absent else None
