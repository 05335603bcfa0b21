"""Word times: the worker that finds them, what happens without it, and how numerals are found."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import psutil
import pytest
from stt.asr.v1 import asr_pb2 as pb

from services.asr.aligner import Aligner
from services.asr.alignment import ForcedAligner
from tests.asr.conftest import Pcm, Serve
from tests.asr.voices import joined, say

TRIED = "Ever tried, ever failed, no matter, try again, fail again, fail better."


@pytest.fixture(scope="module")
def aligner() -> ForcedAligner:
    return ForcedAligner()


def test_numerals_are_found_where_they_are_said(aligner: ForcedAligner, load: Callable[[str], Pcm]) -> None:
    end = load("two_cities.wav")[29 * 16_000 :]
    said = (
        "In short, the period was so far like the present period that some of its noisiest authorities insisted on its "
        "being received for good or for evil in the superlative degree of comparison only."
    )
    plain = aligner.align(end, said.split())
    numerals = aligner.align(end, said.replace(" for ", " 4 ").split())
    assert plain is not None
    assert numerals is not None
    assert np.abs(np.array(plain) - numerals).max() <= 0.2 * 16_000


def test_a_point_that_is_written_need_not_be_said() -> None:
    three, five, seven = (say("en", digit) for digit in ("three", "five", "seven"))
    # A new one: pocketsphinx remembers the loudness of what it heard before.
    spans = ForcedAligner().align(joined([three, five, seven], pause_s=0.5), ["3.5", "seven"])
    assert spans is not None
    starts = [8_000, 3 * 8_000 + len(three) + len(five)]
    assert [start for start, _ in spans] == pytest.approx(starts, abs=1_600)


def test_a_word_no_dictionary_has_is_found_by_its_letters(aligner: ForcedAligner, load: Callable[[str], Pcm]) -> None:
    known = aligner.align(load("beckett.wav"), TRIED.split())
    unknown = aligner.align(load("beckett.wav"), TRIED.replace("matter", "mattur").replace("better", "bettur").split())
    assert known is not None
    assert unknown is not None
    assert np.abs(np.array(known) - unknown).max() <= 0.15 * 16_000


def test_a_mark_that_is_not_said_takes_no_time(aligner: ForcedAligner, load: Callable[[str], Pcm]) -> None:
    spans = aligner.align(load("beckett.wav"), ["\u2014", *TRIED.replace("matter,", "matter, \u2014").split()])
    assert spans is not None
    assert spans[0][0] == spans[0][1] == spans[1][0]
    assert spans[7][0] == spans[7][1] == spans[6][1]


def test_words_that_were_not_said_do_not_fit(aligner: ForcedAligner, load: Callable[[str], Pcm]) -> None:
    much = "I should like to have forty thousand cucumber sandwiches delivered to the embassy before Christmas " * 4
    assert aligner.align(load("beckett.wav"), much.split()) is None
    assert aligner.align(load("beckett.wav"), ["\u2026"]) is None


def test_quiet_speech_is_found_where_loud_speech_is(aligner: ForcedAligner, load: Callable[[str], Pcm]) -> None:
    loud = aligner.align(load("beckett.wav"), TRIED.split())
    quiet = aligner.align((load("beckett.wav") / 64).astype(np.int16), TRIED.split())
    assert loud is not None
    assert quiet is not None
    assert np.median(np.abs(np.array(loud) - quiet)) <= 0.02 * 16_000


async def test_a_worker_that_was_killed_is_replaced(serve: Serve, load: Callable[[str], Pcm]) -> None:
    async with serve() as server:
        await server.segments(load("beckett.wav"))
        killed = server.aligner.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        segments = await server.segments(load("beckett.wav"))
        assert server.aligner.pid not in (None, killed)
    assert {segment.timing for segment in segments} == {pb.TIMING_ALIGNED}


async def test_while_the_worker_hangs_times_are_estimated_and_say_so(serve: Serve, load: Callable[[str], Pcm]) -> None:
    pcm = load("beckett.wav")
    async with serve(alignment_deadline_s=6.0) as server:
        measured = await server.segments(pcm)
        hung = server.aligner.pid
        assert hung is not None
        os.kill(hung, signal.SIGSTOP)
        estimated = await server.segments(pcm)
        again = await server.segments(pcm)
    assert {segment.timing for segment in estimated} == {pb.TIMING_ESTIMATED}
    assert {segment.timing for segment in measured + again} == {pb.TIMING_ALIGNED}
    words = [word for segment in estimated for word in segment.words]
    truth = [word for segment in measured for word in segment.words]
    assert [word.text for word in words] == [word.text for word in truth]
    assert all(word.start_s < word.end_s for word in words)
    assert np.median([abs(word.start_s - other.start_s) for word, other in zip(words, truth, strict=True)]) < 0.6
    assert not psutil.pid_exists(hung)


async def test_the_worker_ends_with_its_owner() -> None:
    async with Aligner(10.0) as owner:
        worker = owner.pid
        assert worker is not None
        assert psutil.pid_exists(worker)
    assert not psutil.pid_exists(worker)


OWNER = """
import asyncio
from services.asr.aligner import Aligner

async def main():
    async with Aligner(10.0) as owner:
        await owner.align(__import__("numpy").zeros(16000, "int16"), ["hello"])
        print(owner.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def test_the_worker_dies_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        # Stopped, it cannot notice that its input ended.
        worker.send_signal(signal.SIGSTOP)
        parent.kill()
    worker.wait(timeout=5)
