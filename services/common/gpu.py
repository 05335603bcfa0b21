"""Whether the GPU that torch computes on still can."""

import sys
import threading
from collections.abc import Callable

_OUT_OF_MEMORY = "out of memory"


def _add() -> None:
    """Have the GPU add two numbers, if torch uses one."""
    # Nothing is asked, and nothing loaded, where nothing used it before.
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.ones(1, device="cuda").add(1).cpu()
        torch.cuda.synchronize()


def works(ask: Callable[[], None] = _add, limit_s: float = 10.0) -> bool:
    """Return whether what torch computes on still does; ask when a step failed. Blocks for at most `limit_s`.

    Once a kernel has failed badly, CUDA fails every call that follows, and only another process is served again. Memory
    that ran out is no such failure.
    """
    answers: list[bool] = []

    def asking() -> None:
        try:
            ask()
        except Exception as error:  # torch and its drivers raise what they like
            answers.append(_OUT_OF_MEMORY in str(error).lower())
        else:
            answers.append(True)

    # A thread of its own, for a device that hangs never answers.
    thread = threading.Thread(target=asking, daemon=True)
    thread.start()
    thread.join(limit_s)
    return any(answers)
