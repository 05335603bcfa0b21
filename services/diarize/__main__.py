"""Starts the diarization service: `python -m services.diarize`."""

import asyncio
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial

from stt.diarize.v1 import diarize_pb2, diarize_pb2_grpc

from services.common import engine_work, logs, tracing
from services.common.server import GrpcServer, run, serve
from services.common.settings import load
from services.diarize import sortformers
from services.diarize.choice import Engines
from services.diarize.engines.community1 import load_community1
from services.diarize.loading import Loading
from services.diarize.servicer import DiarizeServicer
from services.diarize.settings import DiarizeSettings

_PROG = "services.diarize"
_SERVICE = diarize_pb2.DESCRIPTOR.services_by_name["DiarizeService"].full_name


async def _serve(settings: DiarizeSettings) -> None:
    with (
        ThreadPoolExecutor(settings.workers, "diarize") as executor,
        ThreadPoolExecutor(1, "sortformer") as sortformer_executor,
    ):
        embedded = load_community1(executor, settings.steps_s, settings.ahead)
        engine_work.loaded(embedded.model_id, "cpu", settings.workers)
        loading = _loading(settings, sortformer_executor, embedded.model_id)
        engines = Engines(embedded, loading, sortformers.MAX_SPEAKERS)
        task = asyncio.create_task(loading.run()) if loading else None
        try:
            await serve(make_server(engines, settings), settings, model=engines.choose(0).engine.model_id)
        finally:
            if task is not None:
                task.cancel()


def make_server(engines: Engines, settings: DiarizeSettings) -> GrpcServer:
    """Return the server: ready at once, since the embedded engine is, and alive until an engine is lost."""
    servicer = DiarizeServicer(engines, settings)
    return GrpcServer(
        settings,
        [_SERVICE],
        lambda server: diarize_pb2_grpc.add_DiarizeServiceServicer_to_server(servicer, server),
        is_alive=lambda: engines.is_alive,
    )


def _loading(settings: DiarizeSettings, executor: Executor, embedded_id: str) -> Loading | None:
    """Return how the Sortformer is had; None where only the embedded engine is to answer. Raises OSError."""
    model_id, is_installed = settings.model, sortformers.is_installed()
    if model_id == "auto":
        model_id = sortformers.DEFAULT
        if not is_installed or sortformers.find(model_id, settings.model_dir) is None:
            return None
    if model_id == embedded_id:
        return None
    if not is_installed:
        raise OSError(f"DIARIZE_MODEL is {model_id}, which needs what the extra diarize-nemo installs")
    engine_work.wanted(model_id, settings.device)
    fetch = partial(sortformers.fetch, model_id, settings.model_dir)
    return Loading(model_id, fetch, sortformers.loader(model_id, executor, settings), settings.load_retry_s)


def main() -> None:
    """Read the settings and serve until told to stop."""
    settings = load(DiarizeSettings, "python -m services.diarize", "Finds out who spoke when, over gRPC.")
    logs.configure(settings.log_level, settings.log_format, "diarize")
    tracing.configure(settings.traces_exporter, "diarize")
    run(lambda: _serve(settings), _PROG)


if __name__ == "__main__":
    main()
