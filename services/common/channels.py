"""gRPC channels, with every option in one place."""

import grpc

_OPTIONS: list[tuple[str, int | str]] = [
    # A dead peer is noticed in about half a minute even while nothing is sent.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # `dns:///name` spreads work over all addresses of the name.
    ("grpc.lb_policy_name", "round_robin"),
    # Found again soon after a restart: gRPC's own backoff grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Without it a writer runs some 4 MB (two minutes of audio) ahead of a slow reader.
    ("grpc.http2.bdp_probe", 0),
    # Retries are ours to decide: a stream that was heard in part must not be sent again.
    ("grpc.enable_retries", 0),
]


def open_channel(target: str) -> grpc.aio.Channel:
    """Open a plaintext channel to `target` (host:port or dns:///name:port); the caller closes it."""
    return grpc.aio.insecure_channel(target, options=_OPTIONS)
