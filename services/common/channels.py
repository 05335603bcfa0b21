"""gRPC channels, with every option in one place."""

import grpc

_OPTIONS: list[tuple[str, int | str]] = [
    # A dead peer is noticed in about half a minute even while nothing is sent.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # `dns:///name` spreads work over all addresses of the name.
    ("grpc.lb_policy_name", "round_robin"),
    # A service that has moved is looked up again: gRPC's own pause between lookups is half a minute.
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    # Found again soon after a restart: gRPC's own backoff grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # And soon after it was cut off: an attempt that nobody answers would take 20 s.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # Without it a writer runs some 4 MB (two minutes of audio) ahead of a slow reader.
    ("grpc.http2.bdp_probe", 0),
    # Without a policy, only what no server has seen is sent again: requests that meet a connection's end of age.
    # All other retries are for those to decide who know what was told of the answer.
    ("grpc.enable_retries", 1),
]


def open_channel(target: str) -> grpc.aio.Channel:
    """Open a plaintext channel to `target` (host:port or dns:///name:port); the caller closes it."""
    return grpc.aio.insecure_channel(target, options=_OPTIONS)
