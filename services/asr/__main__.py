"""Starts the recognition service: `python -m services.asr`."""

from stt.asr.v1 import asr_pb2, asr_pb2_grpc

from services.asr.aligner import Aligner
from services.asr.engines.moonshine import Moonshine, bundled_model_dir
from services.asr.live import LiveTranscriber
from services.asr.models import Models
from services.asr.scheduler import Scheduler
from services.asr.servicer import AsrServicer
from services.asr.settings import AsrSettings
from services.asr.transcriber import Transcriber
from services.asr.vad import SileroModel, bundled_silero_path
from services.common import logs
from services.common.server import GrpcServer, run, serve
from services.common.settings import load

_PROG = "services.asr"
_SERVICE = asr_pb2.DESCRIPTOR.services_by_name["AsrService"].full_name


async def _serve(settings: AsrSettings) -> None:
    engine = Moonshine(bundled_model_dir(), workers=settings.workers, confidence_floor=settings.confidence_floor)
    models = Models([engine.id], settings.fallback_model)
    voice = SileroModel(bundled_silero_path())
    async with (
        Aligner(settings.alignment_deadline_s) as aligner,
        Scheduler(engine, max_waiting=settings.max_waiting, file_wait_s=settings.file_wait_s) as scheduler,
    ):
        servicer = AsrServicer(
            models,
            scheduler,
            Transcriber(scheduler, aligner, voice),
            LiveTranscriber(scheduler, aligner, voice, max_ahead_s=settings.max_ahead_s),
            settings,
        )
        server = GrpcServer(
            settings, [_SERVICE], lambda server: asr_pb2_grpc.add_AsrServiceServicer_to_server(servicer, server)
        )
        await serve(server, model=engine.id, workers=settings.workers)


def main() -> None:
    """Read the settings and serve until told to stop."""
    settings = load(AsrSettings, "python -m services.asr", "Turns speech into words with times, over gRPC.")
    logs.configure(settings.log_level, settings.log_format, "asr")
    run(lambda: _serve(settings), _PROG)


if __name__ == "__main__":
    main()
