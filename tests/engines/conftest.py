"""What the tests of both engines share: the cores."""

from services.common.openmp import share_cores

share_cores()
