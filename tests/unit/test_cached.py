"""A slow function is cached, a fast one is called each time."""

from __future__ import annotations

from custsvc.runtime.cached import Cached


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_answer_that_took_two_seconds_is_kept_for_twenty() -> None:
    clock, asked = Clock(), []

    def slow() -> int:
        clock.now += 2.0
        asked.append(clock.now)
        return len(asked)

    cached = Cached(slow, clock=clock)

    assert cached() == 1
    clock.now += 19.9
    assert cached() == 1
    clock.now += 0.2
    assert cached() == 2


def test_an_answer_that_took_no_time_is_always_fresh() -> None:
    answers = iter(range(10))
    cached = Cached(lambda: next(answers), clock=Clock())

    assert [cached(), cached(), cached()] == [0, 1, 2]
