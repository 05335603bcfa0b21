"""The process that aligns: reads requests from standard input, writes spans to standard output, ends with its parent.

A request is a line of JSON, `{"words": [...], "bytes": n}`, and n bytes of PCM; an answer a line, `{"spans": [[start,
end], ...]}` in samples, or `{"spans": null}` where audio and words do not fit.
"""

import ctypes
import json
import os
import signal
import sys

import numpy as np

from services.asr.alignment import ForcedAligner

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Answer requests until standard input ends."""
    # What a terminal or a supervisor sends to the whole group is the parent's affair: it ends its worker itself.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    _die_with(int(sys.argv[1]))
    aligner = ForcedAligner()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while line := requests.readline():
        request = json.loads(line)
        samples = np.frombuffer(requests.read(request["bytes"]), "<i2")
        answers.write(json.dumps({"spans": aligner.align(samples, request["words"])}).encode() + b"\n")
        answers.flush()


def _die_with(parent: int) -> None:
    """Be killed when `parent` dies, also in the middle of work, where the end of standard input is not noticed."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    main()
