"""When a mail is tried again and given up, as arithmetic; and whether mail or server is the cause."""

from __future__ import annotations

import itertools

import pytest

from custsvc.config import Settings
from custsvc.notify.run import policy_of
from custsvc.notify.sending.breaker import Breaker
from custsvc.notify.sending.retry import Retries
from custsvc.notify.sending.suspects import Suspects

from .test_breaker import Clock

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
DEFAULT = policy_of(Settings()).retries
# From an evening to the Monday after.
WEEKEND = 2.7 * DAY


def tries(retries: Retries, jitter: float, *, asked: float = 0.0) -> list[float]:
    """The times of all tries of a mail that is always refused, the first one at 0."""
    at = [0.0]
    while (wait := retries.after(len(at), at[-1], asked, lambda: jitter)) is not None:
        at.append(at[-1] + wait)
        assert len(at) < 10_000
    return at


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_as_set_by_default_a_mail_outlives_greylisting_and_a_weekend(jitter: float) -> None:
    at = tries(DEFAULT, jitter)

    # A server that greylists wants to see it again after 5 minutes, some within the hour.
    assert [t for t in at if 5 * MINUTE <= t <= HOUR]
    assert [t for t in at if t >= WEEKEND]
    assert at[-1] == pytest.approx(5 * DAY)
    assert len(at) < DEFAULT.tries


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_the_gaps_grow_up_to_the_cap(jitter: float) -> None:
    at = tries(DEFAULT, jitter)
    gaps = [after - before for before, after in itertools.pairwise(at)][:-1]

    assert gaps == sorted(gaps)
    assert gaps[0] >= DEFAULT.base / 2
    assert max(gaps) <= DEFAULT.cap


@pytest.mark.parametrize(
    ("tried", "base", "cap", "jitter", "seconds"),
    [
        (1, 2.0, 900.0, 1.0, 2.0),
        (2, 2.0, 900.0, 1.0, 4.0),
        (3, 2.0, 900.0, 0.0, 4.0),
        (9, 2.0, 900.0, 1.0, 512.0),
        (10, 2.0, 900.0, 1.0, 900.0),
        (10, 2.0, 900.0, 0.0, 450.0),
        (5000, 2.0, 900.0, 1.0, 900.0),
        (1, 60.0, 30.0, 1.0, 30.0),
    ],
)
def test_each_gap_doubles_and_is_cut_by_half_at_most(
    tried: int, base: float, cap: float, jitter: float, seconds: float
) -> None:
    assert Retries(100, base, cap, DAY).wait(tried, lambda: jitter) == seconds


@pytest.mark.parametrize(
    ("tried", "since", "asked", "wait"),
    [
        (1, 0.0, 0.0, 10.0),
        (1, 0.0, 120.0, 120.0),
        (1, 0.0, 5.0, 10.0),
        (1, 0.0, 1e9, HOUR),  # what is asked for has a cap
        (5, 990.0, 0.0, 10.0),  # the last try is at the end of the time
        (5, 1000.0, 0.0, None),
        (5, 5000.0, 1e9, None),
        (8, 10.0, 0.0, None),  # all tries are used up
        (9, 10.0, 0.0, None),
    ],
)
def test_tries_and_time_bound_it_whichever_ends_first(
    tried: int, since: float, asked: float, wait: float | None
) -> None:
    retries = Retries(tries=8, base=10.0, cap=20_000.0, give_up=10_000.0 if asked else 1000.0)

    assert retries.after(tried, since * (10 if asked and since else 1), asked, lambda: 1.0) == wait


@pytest.mark.parametrize(
    ("times", "asked", "wait"), [(0, 0, 10), (1, 0, 10), (3, 0, 40), (9, 0, 60), (1, 300, 300)]
)
def test_while_the_other_side_is_down_a_mail_is_asked_for_again_soon(
    times: int, asked: float, wait: float
) -> None:
    assert DEFAULT.while_down(times, asked, lambda: 1.0) == wait


# -- who is to blame ---------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_mail_is_to_blame_once_others_passed_between_two_times_that_it_met_the_server_down() -> None:
    suspects = Suspects()

    assert not suspects.down("bad")
    assert not suspects.down("bad"), "nobody else has shown that the server is there"
    suspects.passed("good")
    assert suspects.down("bad")
    assert not suspects.down("bad"), "it may be down by now"


def test_a_mail_that_passed_is_suspected_of_nothing() -> None:
    suspects = Suspects()
    suspects.down("mail")
    suspects.passed("mail")
    suspects.passed("good")

    assert "mail" not in suspects
    assert not suspects.down("mail")


def test_how_long_a_mail_met_the_server_down_is_known(clock: Clock) -> None:
    suspects = Suspects(clock)
    suspects.down("mail")
    clock.now += 50.0
    suspects.down("mail")

    assert (suspects.age("mail"), suspects.times("mail")) == (50.0, 2)
    assert (suspects.age("other"), suspects.times("other")) == (0.0, 0)


def test_one_mail_alone_is_no_outage_three_are(clock: Clock) -> None:
    breaker = Breaker(5, 30.0, clock=clock)
    for _ in range(20):
        breaker.failed("bad")
    assert not breaker.is_open

    breaker.failed("second")
    breaker.failed("third")
    assert breaker.wait() == 30.0


def test_an_unused_probe_is_left_for_the_next_sender(clock: Clock) -> None:
    breaker = Breaker(1, 30.0, clock=clock)
    breaker.failed("mail")
    clock.now += 31.0

    assert breaker.wait() == 0.0
    assert breaker.wait() == 30.0
    breaker.unused()
    assert breaker.wait() == 0.0


def test_a_server_that_asks_to_be_left_alone_is(clock: Clock) -> None:
    breaker = Breaker(1, 30.0, clock=clock)
    breaker.failed("mail", asked=120.0)

    assert breaker.wait() == 120.0
