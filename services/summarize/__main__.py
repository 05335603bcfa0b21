"""Starts the summary service: `python -m services.summarize`."""

from stt.summarize.v1 import summarize_pb2, summarize_pb2_grpc

from services.common import logs, tracing
from services.common.server import GrpcServer, run, serve
from services.common.settings import load
from services.summarize.choice import chosen
from services.summarize.engine import Engine
from services.summarize.servicer import SummarizeServicer
from services.summarize.settings import SummarizeSettings

_PROG = "services.summarize"
_SERVICE = summarize_pb2.DESCRIPTOR.services_by_name["SummarizeService"].full_name


async def _serve(settings: SummarizeSettings) -> None:
    async with chosen(settings) as engine:
        await serve(make_server(engine, settings), settings, model=engine.model)


def make_server(engine: Engine, settings: SummarizeSettings) -> GrpcServer:
    """Return the server, whose health is the engine's."""
    servicer = SummarizeServicer(engine, settings.max_requests)
    return GrpcServer(
        settings,
        [_SERVICE],
        lambda server: summarize_pb2_grpc.add_SummarizeServiceServicer_to_server(servicer, server),
        is_ready=lambda: engine.is_ready,
        is_alive=lambda: engine.is_alive,
    )


def main() -> None:
    """Read the settings and serve until told to stop."""
    settings = load(SummarizeSettings, "python -m services.summarize", "Summarizes transcripts, over gRPC.")
    logs.configure(settings.log_level, settings.log_format, "summarize")
    tracing.configure(settings.traces_exporter, "summarize")
    run(lambda: _serve(settings), _PROG)


if __name__ == "__main__":
    main()
