"""How the threads of torch wait for each other."""

import os


def share_cores() -> None:
    """Have OpenMP threads sleep while they wait, unless the environment says otherwise; call before importing torch.

    By default they spin, and where another program has one of the cores, all others spin for as long as it does: a step
    of a model took 3.7 s on two cores of which one was busy, and 0.14 s so.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
