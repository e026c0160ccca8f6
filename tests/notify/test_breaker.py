"""The circuit breaker, with the test's clock."""

from __future__ import annotations

import pytest

from custsvc.notify.sending.breaker import Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(5, 30.0, clock=clock)


def test_it_opens_after_five_failures_in_a_row(breaker: Breaker) -> None:
    assert [breaker.failed() for _ in range(6)] == [False] * 4 + [True, False]
    assert breaker.is_open


def test_an_answer_resets_the_count_of_failures(breaker: Breaker) -> None:
    for _ in range(4):
        breaker.failed()
    assert not breaker.answered()
    for _ in range(4):
        breaker.failed()

    assert not breaker.is_open
    assert breaker.wait() == 0.0


def test_while_open_one_probe_is_let_through_each_half_minute(breaker: Breaker, clock: Clock) -> None:
    for _ in range(5):
        breaker.failed()

    probes = 0
    for _ in range(600):
        if breaker.wait() == 0.0:
            probes += 1
            breaker.failed()
        clock.now += 1.0

    assert 19 <= probes <= 20


def test_of_several_senders_only_one_has_the_probe(breaker: Breaker, clock: Clock) -> None:
    for _ in range(5):
        breaker.failed()
    clock.now += 31.0

    assert [breaker.wait() for _ in range(3)] == [0.0, 30.0, 30.0]


def test_an_answer_closes_it(breaker: Breaker) -> None:
    for _ in range(5):
        breaker.failed()

    assert breaker.answered()
    assert breaker.wait() == 0.0
