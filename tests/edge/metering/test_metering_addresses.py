"""Whose address counts."""

import pytest

from services.edge.metering.addresses import client_group


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "hops", "group"),
    [
        ("192.0.2.1", [], 0, "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.1"], 0, "192.0.2.1"),
        ("10.0.0.1", ["6.6.6.6, 192.0.2.1"], 1, "192.0.2.1"),
        ("10.0.0.1", ["6.6.6.6", "192.0.2.1, 10.0.0.2"], 2, "192.0.2.1"),
        ("10.0.0.1", ["192.0.2.1"], 2, "10.0.0.1"),
        ("10.0.0.1", ["nonsense"], 1, "10.0.0.1"),
        ("10.0.0.1", [], 1, "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.1:4711"], 1, "192.0.2.1"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], 1, "2001:db8::/64"),
        ("2001:db8:1:2:3:4:5:6", [], 0, "2001:db8:1:2::/64"),
        ("fe80::1%eth0", [], 0, "fe80::/64"),
        ("::ffff:192.0.2.1", [], 0, "192.0.2.1"),
        (None, [], 0, "unknown"),
    ],
)
def test_an_address_counts_as(peer: str | None, forwarded_for: list[str], hops: int, group: str) -> None:
    assert client_group(peer, forwarded_for, hops) == group
