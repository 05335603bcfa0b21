"""Speaks gRPC for an engine: admits a request and streams the answer; how a summary is made is the engine's."""

from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc
from opentelemetry import trace
from stt.summarize.v1 import summarize_pb2, summarize_pb2_grpc

from services.common.places import Places
from services.summarize.convert import read_request, write_delta, write_finished, write_progress
from services.summarize.engine import Caveat, Delta, Engine, Progress

_RETRY_AFTER_S = 2.0


class SummarizeServicer(summarize_pb2_grpc.SummarizeServiceServicer):
    """Summarizes with one engine, at most `max_requests` texts at a time; more are refused, not queued."""

    def __init__(self, engine: Engine, max_requests: int) -> None:
        self._engine = engine
        self._places = Places({"texts": max_requests}, "summarized", _RETRY_AFTER_S)

    async def Summarize(
        self,
        request: summarize_pb2.SummarizeRequest,
        context: "grpc.aio.ServicerContext[summarize_pb2.SummarizeRequest, summarize_pb2.SummarizeResponse]",
    ) -> AsyncIterator[summarize_pb2.SummarizeResponse]:
        """Stream how far it is and the summary's pieces, then the closing message."""
        text, style = read_request(request)
        attributes = {"summarize.model": self._engine.model, "summarize.style": style.value}
        trace.get_current_span().set_attributes({**attributes, "summarize.characters": len(text)})
        async with self._places.taken("texts"):
            caveats: list[Caveat] = []
            async with aclosing(self._engine.summarize(text, style)) as events:
                async for event in events:
                    match event:
                        case Delta():
                            yield write_delta(event)
                        case Progress():
                            yield write_progress(event)
                        case Caveat():
                            caveats.append(event)
            yield write_finished(self._engine.model, caveats)
