"""How workers wait and stop."""

from __future__ import annotations

import os
import signal

import pytest

from custsvc.errors import ConfigurationError, TemporaryError
from custsvc.runtime.loop import Outage, Stop, backoff, insist, keep_trying


@pytest.mark.parametrize(
    ("attempt", "most"), [(1, 0.5), (2, 1.0), (3, 2.0), (5, 8.0), (6, 10.0), (50, 10.0), (100_000, 10.0)]
)
def test_the_wait_doubles_up_to_the_cap(attempt: int, most: float) -> None:
    assert backoff(attempt, 0.5, 10.0, rng=lambda: 1.0) == most
    assert backoff(attempt, 0.5, 10.0, rng=lambda: 0.0) == 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_asks_to_stop_and_handlers_are_put_back(signum: signal.Signals) -> None:
    given = signal.signal(signum, signal.default_int_handler)  # not ignored, as SIGHUP is under nohup
    try:
        with Stop().on_signals() as stop:
            os.kill(os.getpid(), signum)
            assert stop.wait(5)

        assert signal.getsignal(signum) == signal.default_int_handler
    finally:
        signal.signal(signum, given)


def test_a_closed_terminal_stops_nothing_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop().on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.wait(0.1)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_work_that_meets_an_outage_is_tried_again() -> None:
    stop, tries = Stop(), []

    def work() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise TemporaryError("away", dependency="kafka")
        stop.ask()

    keep_trying(work, stop, "test", cap=0.01)

    assert len(tries) == 3


def test_a_permanent_error_ends_the_work() -> None:
    def work() -> None:
        raise ConfigurationError("wrong")

    with pytest.raises(ConfigurationError):
        keep_trying(work, Stop(), "test")


def test_the_waits_of_an_outage_grow_until_it_is_over() -> None:
    outage, away = Outage("test", rng=lambda: 1.0), TemporaryError("away", dependency="kafka")

    first = [outage.failed(away) for _ in range(3)]
    outage.over()

    assert first == [0.5, 1.0, 2.0]
    assert outage.failed(away) == 0.5


def test_insist_repeats_the_work_until_it_succeeds() -> None:
    tries: list[int] = []
    rests: list[float] = []

    def work() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise TemporaryError("away", dependency="kafka")
        return "done"

    assert insist(work, Outage("test"), rests.append, give_up=lambda: False) == "done"
    assert len(rests) == 2


def test_insist_gives_up_when_the_caller_says_so() -> None:
    outage = Outage("test")

    def work() -> None:
        raise TemporaryError("away", dependency="kafka")

    with pytest.raises(TemporaryError, match="away"):
        insist(work, outage, lambda _: None, give_up=lambda: outage.failures == 2)
    assert outage.failures == 2
