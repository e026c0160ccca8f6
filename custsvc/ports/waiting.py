"""How a migration waits: until stop is asked, for at most so long at one thing, and saying what for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from ..errors import Stopped

logger = logging.getLogger(__name__)

# Seconds at one lock, and seconds between two lines of the log about it.
_PATIENCE: Final = 300.0
_SAY_EVERY: Final = 10.0
# Seconds that a wait may last before it is worth a warning: the roles of a first start wait for each other.
_SOON: Final = 5.0


class Stopping(Protocol):
    """The wish to stop, as `runtime.loop.Stop` has it."""

    def asked(self) -> bool: ...
    def wait(self, seconds: float) -> bool: ...


class Never:
    """Nobody asks to stop: a command that a signal simply ends."""

    def asked(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        time.sleep(seconds)
        return False


@dataclass
class Waiting:
    """The pauses of a migration between two tries. It calls `tell` with the reason of each wait."""

    stop: Stopping = field(default_factory=Never)
    tell: Callable[[str], None] = lambda _: None
    patience: float = _PATIENCE
    _said: float = field(default=float("-inf"), init=False)
    _began: float | None = field(default=None, init=False)

    @property
    def interruptible(self) -> bool:
        """Whether it can be stopped."""
        return not isinstance(self.stop, Never)

    def check(self) -> None:
        """Raises Stopped when stop is asked."""
        if self.stop.asked():
            raise Stopped("the migration was stopped; run the same command again to go on")

    def pause(self, seconds: float, why: str) -> None:
        """Sleep, and report why. Raises Stopped when asked to stop."""
        self.tell(why)
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        if now - self._said > _SAY_EVERY or (self._said < self._began + _SOON <= now):
            self._said = now
            level = logging.INFO if now < self._began + _SOON else logging.WARNING
            logger.log(level, "The migration waits: %s", why, extra={"action": "migration_waits"})
        if self.stop.wait(seconds):
            self.check()
