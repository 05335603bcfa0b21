"""The decoding child's program: import, confine itself, then read the first byte. `decoder` starts it."""

import errno
import os
import sys
from dataclasses import replace
from io import FileIO

import av.logging

from services.common.audio import SAMPLE_BYTES
from services.edge.media import pcm, sandbox
from services.edge.media.protocol import Failure, Job, Report
from services.edge.media.source import NamelessFile

_UPLOAD_FD, _REPORT_FD = 0, 1


def main(job: Job) -> None:
    """Decode standard input into the job's PCM file, and write one report line to standard output."""
    av.logging.set_level(None)
    upload = NamelessFile(_UPLOAD_FD)
    file = FileIO(job.pcm_fd, "r+", closefd=False)
    unconfined = sandbox.confine(job.parent_pid, job.memory_bytes, job.cpu_s, job.max_samples * SAMPLE_BYTES)
    try:
        report = pcm.decode(upload, file, job.max_samples)
    except pcm.MediaFailure as verdict:
        report = Report(failure=verdict.failure, codec=verdict.codec)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        report = Report(failure=Failure.NO_SPACE if full else Failure.UNDECODABLE, detail=repr(error))
    except Exception as error:
        report = Report(failure=Failure.UNDECODABLE, detail=repr(error))
    os.write(_REPORT_FD, replace(report, unconfined=unconfined).to_json())
    # Not through the destructors: a demuxer that met hostile input may not survive its own clean-up.
    os._exit(0)


if __name__ == "__main__":
    main(Job.from_json(sys.argv[1]))
