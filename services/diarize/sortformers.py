"""Where the files of a Sortformer are, and how one is put together; how it works is `engines.sortformer`'s."""

from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from services.common import engine_work, hub_cache
from services.common.openmp import share_cores
from services.diarize.engine import Engine
from services.diarize.engines.sortformer.presets import PRESETS
from services.diarize.settings import DiarizeSettings

DEFAULT = "diar_streaming_sortformer_4spk-v2"
MAX_SPEAKERS = 4
_PUBLISHER = "nvidia"


def is_installed() -> bool:
    """Return whether what runs a Sortformer is installed: the extra diarize-nemo."""
    return find_spec("nemo") is not None and find_spec("torch") is not None


def find(model_id: str, model_dir: Path | None) -> Path | None:
    """Return a model's .nemo file: of `model_dir`, or as it came from a hub; None where it is not here."""
    name = f"{model_id}.nemo"
    folders = [model_dir, model_dir / model_id] if model_dir else []
    if (snapshot := hub_cache.snapshot(_repository(model_id))) is not None:
        folders.append(snapshot)
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


async def fetch(model_id: str, model_dir: Path | None) -> None:
    """Bring a model's file here, if it is not; raises HubError."""
    if find(model_id, model_dir) is None:
        await hub_cache.fetch(_repository(model_id), [f"{model_id}.nemo"])


def loader(model_id: str, executor: Executor, settings: DiarizeSettings) -> Callable[[], Engine]:
    """Return what loads a model whose file is here, for the one thread of `executor`; raises OSError, ValueError."""

    def load() -> Engine:
        share_cores()
        # Only who has one needs them, and they take ten seconds.
        from services.diarize.engines.sortformer import network
        from services.diarize.engines.sortformer.batches import Batches
        from services.diarize.engines.sortformer.engine import Sortformer

        path = find(model_id, settings.model_dir)
        if path is None:
            raise FileNotFoundError(f"there is no {model_id}.nemo")
        device = network.choose_device(settings.device)
        loaded = network.load(path, device, MAX_SPEAKERS, settings.workers)
        # On a CPU chunks in company take longer than one by one, and live ones longer than their audio.
        is_gpu = device == "cuda"
        on_lost = partial(engine_work.lost, model_id, device)
        made = Sortformer(
            model_id=model_id,
            max_speakers=MAX_SPEAKERS,
            is_live=is_gpu,
            batches=Batches(loaded, executor, settings.max_batch or (8 if is_gpu else 1), on_lost=on_lost),
            recordings=PRESETS[settings.latency_s],
            sessions=PRESETS[settings.live_latency_s],
        )
        engine_work.loaded(model_id, device)
        return made

    return load


def _repository(model_id: str) -> str:
    return f"{_PUBLISHER}/{model_id}"
