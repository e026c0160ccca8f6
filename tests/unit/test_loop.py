"""How workers wait and stop."""

from __future__ import annotations

import os
import signal

import pytest

from custsvc.errors import ConfigurationError, TemporaryError
from custsvc.runtime.loop import Stop, backoff, keep_trying


@pytest.mark.parametrize(
    ("attempt", "most"), [(1, 0.5), (2, 1.0), (3, 2.0), (5, 8.0), (6, 10.0), (50, 10.0), (100_000, 10.0)]
)
def test_the_wait_doubles_up_to_the_cap(attempt: int, most: float) -> None:
    assert backoff(attempt, 0.5, 10.0, rng=lambda: 1.0) == most
    assert backoff(attempt, 0.5, 10.0, rng=lambda: 0.0) == 0


def test_the_first_signal_asks_to_stop_and_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)

    with Stop().on_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(5)

    assert signal.getsignal(signal.SIGTERM) == before


def test_work_that_meets_an_outage_is_tried_again() -> None:
    stop, tries = Stop(), []

    def work() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise TemporaryError("away", dependency="kafka")
        stop.ask()

    keep_trying(work, stop, "test", cap=0.01)

    assert len(tries) == 3


def test_an_error_that_waiting_does_not_mend_ends_the_work() -> None:
    def work() -> None:
        raise ConfigurationError("wrong")

    with pytest.raises(ConfigurationError):
        keep_trying(work, Stop(), "test")
