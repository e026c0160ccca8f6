"""Changes in two steps: a preview gives a token, and only the same call with that token makes the change."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..errors import CustsvcError, ExitCode

LIFETIME: Final = 600.0
_MOST: Final = 1000


class NotConfirmed(CustsvcError):
    """The confirmation is unknown, used, expired, or of another call."""

    exit_code = ExitCode.CONFLICT


@dataclass(frozen=True, slots=True)
class Pending:
    """A change that was shown: the call, and the versions of the customers that it was shown for."""

    call: tuple[Any, ...]
    versions: Mapping[int, int]
    until: float


class Confirmations:
    """The changes that were shown and may be confirmed, each once, within ten minutes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._pending: dict[str, Pending] = {}

    def ask(self, call: tuple[Any, ...], versions: Mapping[int, int]) -> str:
        """A token for this call on these customers as they are now."""
        token = secrets.token_urlsafe(12)
        with self._lock:
            while len(self._pending) >= _MOST:
                del self._pending[next(iter(self._pending))]
            self._pending[token] = Pending(call, versions, self._clock() + LIFETIME)
        return token

    def take(self, token: str, call: tuple[Any, ...]) -> Mapping[int, int]:
        """The versions that this call was shown for. Raises NotConfirmed; a token is good for one call."""
        with self._lock:
            pending = self._pending.pop(token, None)
        if pending is None or pending.until < self._clock() or pending.call != call:
            raise NotConfirmed(fix="call it again without `confirm`, and look at what it would do")
        return pending.versions
