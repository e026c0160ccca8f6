"""When a temporarily refused mail is tried again, and when it is given up. Arithmetic only.

The delays double up to a cap, and each is reduced at random by up to a half, so that mails refused together
spread out, and yet each delay is longer than the one before. Time is the limit for retries: a greylisting
server accepts a mail after minutes, a server that broke on a Friday evening is repaired on Monday.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# A receiver's Retry-After is honoured up to this many seconds.
ASKED_MAX: Final = 3600.0
# Most seconds between two tries of a mail during an outage: it should leave soon after its end.
_DOWN_MAX: Final = 60.0


@dataclass(frozen=True, slots=True)
class Retries:
    """The retry policy. Times in seconds."""

    tries: int
    base: float
    cap: float
    give_up: float

    def wait(self, tried: int, rng: Callable[[], float] = random.random) -> float:
        """Seconds until the next try, after this many tries."""
        # 2.0 ** 1024 overflows a float, and 64 doublings exceed any cap.
        longest = min(self.cap, self.base * 2.0 ** min(tried - 1, 64))
        return longest * (0.5 + rng() / 2)

    def after(
        self, tried: int, since_first: float, asked: float = 0.0, rng: Callable[[], float] = random.random
    ) -> float | None:
        """Seconds until the next try, given the number of tries and the time since the first; None: give up.

        `asked`: seconds that the server asks us to wait. The last try is at the end of the `give_up` time.
        """
        left = self.give_up - since_first
        if tried >= self.tries or left <= 0:
            return None
        return min(left, max(self.wait(tried, rng), min(asked, ASKED_MAX)))

    def while_down(self, times: int, asked: float = 0.0, rng: Callable[[], float] = random.random) -> float:
        """Seconds until a mail that met this many outages is tried again."""
        return max(min(self.wait(max(times, 1), rng), _DOWN_MAX), min(asked, ASKED_MAX))
