"""When a mail that was refused for now is tried again, and when it is given up. Arithmetic only.

The gaps double up to a cap, and each is cut by up to a half at random, so that a crowd that was refused
together spreads out and yet each gap is longer than the one before. What bounds them is time: a server that
greylists takes a mail after minutes, one that broke on a Friday evening is mended on Monday.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# What a receiver asks for by Retry-After is granted up to here.
ASKED_MAX: Final = 3600.0
# Most seconds between two tries of a mail while the other side is down: it shall go soon after that is back.
_DOWN_MAX: Final = 60.0


@dataclass(frozen=True, slots=True)
class Retries:
    """How mails are tried again. Times in seconds."""

    tries: int
    base: float
    cap: float
    give_up: float

    def wait(self, tried: int, rng: Callable[[], float] = random.random) -> float:
        """Seconds until the next try after so many."""
        # 2.0 ** 1024 is no float any more, and 64 doublings are past any cap.
        longest = min(self.cap, self.base * 2.0 ** min(tried - 1, 64))
        return longest * (0.5 + rng() / 2)

    def after(
        self, tried: int, since_first: float, asked: float = 0.0, rng: Callable[[], float] = random.random
    ) -> float | None:
        """Seconds until the next try of a mail that was refused so often, first so long ago; None: no more.

        `asked`: seconds that the other side wants to be left alone. The last try is at the end of the time.
        """
        left = self.give_up - since_first
        if tried >= self.tries or left <= 0:
            return None
        return min(left, max(self.wait(tried, rng), min(asked, ASKED_MAX)))

    def while_down(self, times: int, asked: float = 0.0, rng: Callable[[], float] = random.random) -> float:
        """Seconds until a mail is tried again that met the other side down so often."""
        return max(min(self.wait(max(times, 1), rng), _DOWN_MAX), min(asked, ASKED_MAX))
