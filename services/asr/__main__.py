"""Starts the recognition service: `python -m services.asr`."""

from stt.asr.v1 import asr_pb2, asr_pb2_grpc

from services.asr.service import Service, assembled
from services.asr.settings import AsrSettings
from services.common import logs, tracing
from services.common.server import GrpcServer, run, serve
from services.common.settings import load

_PROG = "services.asr"
_SERVICE = asr_pb2.DESCRIPTOR.services_by_name["AsrService"].full_name


def server_of(service: Service, settings: AsrSettings) -> GrpcServer:
    """Return the server that makes `service` known to callers, and how it is."""
    return GrpcServer(
        settings,
        [_SERVICE],
        lambda server: asr_pb2_grpc.add_AsrServiceServicer_to_server(service.servicer, server),
        is_ready=lambda: service.models.is_ready,
        is_alive=lambda: not service.models.is_beyond_repair,
    )


async def _serve(settings: AsrSettings) -> None:
    async with assembled(settings) as service:
        await serve(
            server_of(service, settings),
            settings,
            models=", ".join(filter(service.models.available, service.models.models)),
            device=service.device.kind,
        )


def main() -> None:
    """Read the settings and serve until told to stop."""
    settings = load(AsrSettings, "python -m services.asr", "Turns speech into words with times, over gRPC.")
    logs.configure(settings.log_level, settings.log_format, "asr")
    tracing.configure(settings.traces_exporter, "asr")
    run(lambda: _serve(settings), _PROG)


if __name__ == "__main__":
    main()
