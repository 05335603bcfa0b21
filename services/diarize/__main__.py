"""Starts the diarization service: `python -m services.diarize`."""

from concurrent.futures import ThreadPoolExecutor

from stt.diarize.v1 import diarize_pb2, diarize_pb2_grpc

from services.common import logs
from services.common.server import GrpcServer, run, serve
from services.common.settings import load
from services.diarize.engines.community1 import load_community1
from services.diarize.servicer import DiarizeServicer
from services.diarize.settings import DiarizeSettings

_PROG = "services.diarize"
_SERVICE = diarize_pb2.DESCRIPTOR.services_by_name["DiarizeService"].full_name


async def _serve(settings: DiarizeSettings) -> None:
    with ThreadPoolExecutor(settings.workers, "diarize") as executor:
        engine = load_community1(executor, settings.steps_s, settings.ahead)
        servicer = DiarizeServicer(engine, settings)
        server = GrpcServer(
            settings,
            [_SERVICE],
            lambda server: diarize_pb2_grpc.add_DiarizeServiceServicer_to_server(servicer, server),
        )
        await serve(server, model=engine.model_id)


def main() -> None:
    """Read the settings and serve until told to stop."""
    settings = load(DiarizeSettings, "python -m services.diarize", "Finds out who spoke when, over gRPC.")
    logs.configure(settings.log_level, settings.log_format, "diarize")
    run(lambda: _serve(settings), _PROG)


if __name__ == "__main__":
    main()
