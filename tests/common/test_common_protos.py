"""The protos and the code agree on what they both name."""

from stt.common.v1 import common_pb2

from services.common.errors import Reason
from services.common.rpc_errors import STATUS

PREFIX = "ERROR_REASON_"


def test_every_reason_of_the_protos_is_a_reason_of_the_code() -> None:
    named = {name.removeprefix(PREFIX) for name in common_pb2.ErrorReason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118
    assert named <= set(Reason.__members__)


def test_every_reason_has_a_grpc_status() -> None:
    assert set(STATUS) == set(Reason)
