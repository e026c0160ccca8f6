"""The time of each retry of a mail, as arithmetic."""

from __future__ import annotations

import pytest

from custsvc.runtime.loop import backoff


@pytest.mark.parametrize(
    ("attempt", "base", "cap", "jitter", "seconds"),
    [
        (1, 2.0, 900.0, 1.0, 2.0),
        (2, 2.0, 900.0, 1.0, 4.0),
        (3, 2.0, 900.0, 1.0, 8.0),
        (8, 2.0, 900.0, 1.0, 256.0),
        (9, 2.0, 900.0, 1.0, 512.0),
        (10, 2.0, 900.0, 1.0, 900.0),
        (1000, 2.0, 900.0, 1.0, 900.0),
        (3, 2.0, 900.0, 0.5, 4.0),
        (3, 2.0, 900.0, 0.0, 0.0),
        (1, 60.0, 30.0, 1.0, 30.0),
    ],
)
def test_the_wait_doubles_up_to_the_cap_and_jitter_takes_any_part_of_it(
    attempt: int, base: float, cap: float, jitter: float, seconds: float
) -> None:
    assert backoff(attempt, base, cap, rng=lambda: jitter) == seconds
