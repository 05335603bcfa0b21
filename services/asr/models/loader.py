"""Makes engines of models: brings their files here, measures what they need, and loads them on the device."""

import ctypes
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from services.asr.device import Device
from services.asr.engine import SAMPLE_RATE, Engine, Utterance
from services.asr.engines.moonshine import Moonshine, bundled_model_dir
from services.asr.engines.whisper import Running, Whisper
from services.asr.models import store
from services.asr.models.catalog import Model
from services.asr.scheduler import Scheduler
from services.common import hub_cache


class DeviceLoader:
    """Loads models of the catalog; see `keeper.Loader`."""

    def __init__(
        self,
        device: Device,
        running: Running,
        schedulers: dict[str, Scheduler],
        *,
        confidence_floor: float,
        least_window_s: float = 0.0,
        command: Sequence[str] = (sys.executable, "-m", "services.asr.models", "pull"),
    ) -> None:
        """Run Whisper on `device` as `running` says; `schedulers` are by kind of device.

        `least_window_s` replaces what was measured for each model; 0 leaves it.
        """
        self._device = device
        self._running = running
        self._schedulers = schedulers
        self._confidence_floor = confidence_floor
        self._least_window_s = least_window_s
        self._command = command

    async def fetch(self, model: Model) -> None:
        """Download the model's files in a process of its own: it can hang or be ended without any harm here."""
        await hub_cache.apart(*self._command, model.id)

    def is_here(self, model: Model) -> bool:
        """Return whether the model's files are here; those of a folder that was given are what they are."""
        return model.is_embedded or store.is_here(model)

    def need_mib(self, model: Model) -> float:
        """Return the memory that the model takes once it is loaded; the embedded one is too small to count."""
        if model.is_embedded:
            return 0.0
        running = self._running
        weights = store.weights_of(model)
        return weights.loaded_mib(running.compute_type, running.workers * running.max_batch)

    def free_mib(self) -> float:
        """Return the memory that is left for models."""
        return self._device.free_mib()

    def load(self, model: Model) -> Engine:
        """Load a model and let it decode, at first to make it ready, then to see how long a look takes."""
        engine: Engine
        if model.is_embedded:
            engine = Moonshine(bundled_model_dir(), confidence_floor=self._confidence_floor)
        else:
            tuning = model.tuning
            if self._least_window_s:
                tuning = replace(tuning, least_window_s=self._least_window_s)
            engine = Whisper(model.id, store.files(model), self._running, tuning)
        silence = Utterance(np.zeros(SAMPLE_RATE, np.int16), engine.languages[0], interim=True)
        engine.decode([silence])
        began = time.monotonic()
        engine.decode([silence])
        self.scheduler(model).expect(engine, time.monotonic() - began)
        return engine

    def unload(self, engines: list[Engine | None]) -> None:
        """Empty `engines`, the last that holds them, and give the memory back."""
        engines.clear()
        # glibc keeps what was freed: of a model of 0.8 GiB 0.7.
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)

    def scheduler(self, model: Model) -> Scheduler:
        """Return the scheduler of the device that the model runs on."""
        return self._schedulers["cpu" if model.is_embedded else self._device.kind]
