"""Mails during whose try the server went down: did it go down by itself, or because of this mail?

A recipient whose name makes a server drop the connection looks like an outage. Other mails show the
difference: a mail that met an outage twice, although others passed in between, is the cause itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# Beyond this number the oldest are forgotten: then it is a real outage, and no mail is the cause.
_MOST: Final = 10_000


@dataclass(slots=True)
class _Suspect:
    since: float
    # How many mails had passed when this mail last met an outage.
    passed: int
    times: int = 0


class Suspects:
    """The suspected mails; shared by the senders of one channel in a process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._passed = 0
        self._of: dict[str, _Suspect] = {}

    def __contains__(self, mail: str) -> bool:
        return mail in self._of

    def __len__(self) -> int:
        return len(self._of)

    def passed(self, mail: str) -> None:
        """Note that the server answered this mail, whatever the answer."""
        with self._lock:
            self._passed += 1
            self._of.pop(mail, None)

    def forget(self, mail: str) -> None:
        """Forget a mail that is not tried any more."""
        with self._lock:
            self._of.pop(mail, None)

    def down(self, mail: str) -> bool:
        """Note that this mail met an outage. True if it did so before, and others passed since."""
        with self._lock:
            known = mail in self._of
            suspect = self._of.setdefault(mail, _Suspect(self._clock(), self._passed))
            is_to_blame = known and suspect.passed < self._passed
            suspect.passed, suspect.times = self._passed, suspect.times + 1
            if len(self._of) > _MOST:
                del self._of[next(iter(self._of))]
            return is_to_blame

    def times(self, mail: str) -> int:
        """How often this mail met an outage."""
        suspect = self._of.get(mail)
        return suspect.times if suspect else 0

    def age(self, mail: str) -> float:
        """Seconds since this mail first met an outage."""
        suspect = self._of.get(mail)
        return self._clock() - suspect.since if suspect else 0.0
