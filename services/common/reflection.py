"""gRPC reflection in both of its versions: tools of today ask for v1, older ones for v1alpha.

grpcio-reflection has v1alpha alone; the messages of v1 are the same but for their package.
"""

from collections.abc import Sequence

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

_V1 = "grpc.reflection.v1.ServerReflection"


def enable(services: Sequence[str], server: grpc.aio.Server) -> None:
    """Let callers ask `server` what `services` there are, and how their messages look."""
    names = (*services, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    handler = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(names).ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_V1, {"ServerReflectionInfo": handler})])
