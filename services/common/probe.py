"""Ask a gRPC service how it is, as a container's health check: `python -m services.common.probe HOST:PORT [SERVICE]`.

The exit status is 0 when it says SERVING.
"""

import argparse
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def main() -> None:
    """Ask once."""
    parser = argparse.ArgumentParser(prog="python -m services.common.probe", description=__doc__)
    parser.add_argument("address", help="host:port")
    parser.add_argument("service", nargs="?", default="", help="a service's full name, or live; none: all of it")
    parser.add_argument("--timeout-s", type=float, default=2.0)
    arguments = parser.parse_args()
    request = health_pb2.HealthCheckRequest(service=arguments.service)
    with grpc.insecure_channel(arguments.address) as channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(request, timeout=arguments.timeout_s)
        except grpc.RpcError as error:
            raise SystemExit(f"{arguments.address} does not answer: {error.code().name}") from None
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    raise SystemExit(None if name == "SERVING" else f"{arguments.address} says {name}")


if __name__ == "__main__":
    main()
