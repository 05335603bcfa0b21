"""Puts the recognition service together: device, schedulers, models, transcribers."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from services.asr import device as devices
from services.asr.aligner import Aligner
from services.asr.device import Device
from services.asr.engines.whisper import Running
from services.asr.live import LiveTranscriber
from services.asr.models.catalog import EMBEDDED, Model, catalog
from services.asr.models.keeper import Keeper, Limits, Loader
from services.asr.models.loader import DeviceLoader
from services.asr.scheduler import Scheduler
from services.asr.servicer import AsrServicer
from services.asr.settings import AsrSettings
from services.asr.transcriber import Transcriber
from services.asr.vad import SileroModel, bundled_silero_path
from services.common.service_metrics import ENGINE_BUSY, ENGINE_WORKERS, MODEL_LOADED

_GPU_BATCH, _CPU_BATCH = 16, 4

MakeLoader = Callable[[AsrSettings, Device, dict[str, Scheduler]], Loader]


@dataclass(frozen=True, slots=True)
class Service:
    """The parts that others look at."""

    servicer: AsrServicer
    models: Keeper
    aligner: Aligner
    device: Device


def make_loader(settings: AsrSettings, device: Device, schedulers: dict[str, Scheduler]) -> DeviceLoader:
    """Return what loads models as the settings say. Raises OSError where the device cannot compute so."""
    on_gpu = device.kind == "cuda"
    try:
        compute_type = device.compute_type(settings.compute_type)
    except ValueError as error:
        raise OSError(f"ASR_COMPUTE_TYPE: {error}") from None
    running = Running(
        device.kind,
        compute_type,
        workers=settings.gpu_workers if on_gpu else settings.workers,
        max_batch=settings.max_batch or (_GPU_BATCH if on_gpu else _CPU_BATCH),
        beam_size=settings.beam_size,
    )
    return DeviceLoader(
        device,
        running,
        schedulers,
        confidence_floor=settings.confidence_floor,
        least_window_s=settings.least_window_s,
    )


@asynccontextmanager
async def assembled(settings: AsrSettings, make_loader: MakeLoader = make_loader) -> AsyncIterator[Service]:
    """Run everything but the server. Raises OSError where the settings ask for what is not there."""
    models = catalog(settings.model_dir)
    at_start = [*settings.models, *settings.fallback_models]
    if unknown := {*at_start, *settings.models_on_demand} - set(models):
        raise OSError(f"there is no model {', '.join(sorted(unknown))}; there are: {', '.join(models)}")
    if len({*at_start} - {EMBEDDED.id}) > settings.max_models:
        raise OSError(f"ASR_MAX_MODELS is {settings.max_models}, less than ASR_MODELS names")
    device = devices.find(settings.device, settings.visible_devices)
    scheduler = partial(Scheduler, max_waiting=settings.max_waiting, file_wait_s=settings.file_wait_s)
    async with (
        Aligner(settings.alignment_deadline_s) as aligner,
        scheduler(workers=settings.workers, device="cpu") as on_cpu,
        scheduler(workers=settings.gpu_workers, device="cuda") as on_gpu,
        Keeper(
            models,
            loader := make_loader(settings, device, {"cpu": on_cpu, "cuda": on_gpu}),
            Limits(settings.max_models, settings.memory_mib, settings.load_retry_s),
            at_start=at_start,
            on_demand=settings.models_on_demand,
            default=settings.models,
            fallbacks=settings.fallback_models,
        ) as keeper,
    ):
        wanted = dict.fromkeys((*at_start, *settings.models_on_demand))
        _show((models[model] for model in wanted), keeper, loader)
        voice = SileroModel(bundled_silero_path())
        recordings = Transcriber(aligner, voice)
        sessions = LiveTranscriber(aligner, voice, max_ahead_s=settings.max_ahead_s)
        yield Service(AsrServicer(keeper, device, recordings, sessions, settings), keeper, aligner, device)


def _show(wanted: Iterable[Model], keeper: Keeper, loader: Loader) -> None:
    """Let metrics tell which of the models that are wanted are loaded, and who can compute for them."""
    for model in wanted:
        scheduler = loader.scheduler(model)
        ENGINE_WORKERS.labels(scheduler.device).set(scheduler.workers)
        MODEL_LOADED.labels(model.id, scheduler.device).set_function(partial(keeper.available, model.id))
        ENGINE_BUSY.labels(model.id)
