"""Jobs of several threads that run as one batch."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from custsvc.stores.common.together import Together
from tests.waiting import until


class Runs:
    """Runs batches, notes them, and holds each while it is told to."""

    def __init__(self, patience: float = 60.0) -> None:
        self.batches: list[list[str]] = []
        self.threads: list[int] = []
        self.free = threading.Event()
        self.free.set()
        self.error: Exception | None = None
        self.together = Together(self._run, lambda job: job[0], patience=patience)

    def _run(self, jobs: Sequence[str]) -> list[str]:
        self.batches.append(list(jobs))
        self.threads.append(threading.get_ident())
        assert self.free.wait(60)
        if self.error is not None and len(jobs) > 1:
            raise self.error
        return [job.upper() for job in jobs]

    @contextmanager
    def meanwhile(self, *jobs: str) -> Iterator[list[Future[str]]]:
        """The outcomes of these jobs, which all come while the first one is held."""
        self.free.clear()
        with ThreadPoolExecutor(len(jobs)) as pool:
            first = pool.submit(self.together.do, jobs[0])
            until("the first job runs", lambda: self.batches)
            others = []
            for number, job in enumerate(jobs[1:], 1):
                others.append(pool.submit(self.together.do, job))
                until("the job waits", lambda number=number: len(self.together._waiting) == number)
            self.free.set()
            yield [first, *others]


def test_a_job_without_company_runs_at_once_in_its_own_thread() -> None:
    runs = Runs()

    assert [runs.together.do("a1"), runs.together.do("b1")] == ["A1", "B1"]

    assert runs.batches == [["a1"], ["b1"]]
    assert set(runs.threads) == {threading.get_ident()}


def test_jobs_that_come_meanwhile_are_the_next_batch() -> None:
    runs = Runs()

    with runs.meanwhile("a1", "b1", "c1", "d1") as outcomes:
        assert [each.result(60) for each in outcomes] == ["A1", "B1", "C1", "D1"]

    assert runs.batches == [["a1"], ["b1", "c1", "d1"]]


def test_two_jobs_of_one_key_run_one_after_the_other() -> None:
    runs = Runs()

    with runs.meanwhile("a1", "b1", "b2", "c1", "b3") as outcomes:
        assert [each.result(60) for each in outcomes] == ["A1", "B1", "B2", "C1", "B3"]

    assert runs.batches == [["a1"], ["b1", "c1"], ["b2"], ["b3"]]


def test_a_batch_is_bounded() -> None:
    runs = Runs()

    with runs.meanwhile(*(chr(ord("a") + number) for number in range(20))) as outcomes:
        for each in outcomes:
            each.result(60)

    assert [len(batch) for batch in runs.batches] == [1, 16, 3]


def test_an_error_of_a_batch_reaches_each_of_its_threads_and_no_other() -> None:
    runs = Runs()
    runs.error = ConnectionError("lost")

    with runs.meanwhile("a1", "b1", "c1", "b2") as outcomes:
        first, *lost, last = outcomes
        for each in lost:
            with pytest.raises(ConnectionError, match="lost"):
                each.result(60)
        assert [first.result(60), last.result(60)] == ["A1", "B2"]

    assert runs.together.do("d1") == "D1"


def test_a_job_does_not_wait_long_for_a_batch_that_hangs() -> None:
    runs = Runs(patience=0.01)
    runs.free.clear()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(runs.together.do, "a1")
        until("the first job runs", lambda: runs.batches)

        second = pool.submit(runs.together.do, "b1")
        until("the second runs beside it", lambda: runs.batches == [["a1"], ["b1"]])

        # Once it is known to hang, nobody waits for it at all.
        third = pool.submit(runs.together.do, "c1")
        until("the third runs beside both", lambda: runs.batches == [["a1"], ["b1"], ["c1"]])
        assert not first.done()
        runs.free.set()
        assert [first.result(60), second.result(60), third.result(60)] == ["A1", "B1", "C1"]
    assert runs.together.do("d1") == "D1"
