"""How long a call may take, and how its tries are spread; and reading JSON out of an answer.

A write carries an idempotency key, made once for the call: the server does it once, however often it is sent.
So a lost answer, a killed server and a proxy's 502 are all met alike: the same request again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import anyio
import httpx

from .errors import ApiError

IDEMPOTENCY_KEY: Final = "Idempotency-Key"
URL_FIX: Final = "give it as http://localhost:8000 or https://customers.example.org"


@dataclass(frozen=True, slots=True)
class Retry:
    """How long a call may take, in seconds, and how its tries are spread.

    `within` is for all tries together (0: one try), `timeout` for one of them. Pauses grow from `first` to
    `longest`, each shortened by chance so that a crowd of clients does not come back at once; a server's
    Retry-After is honoured. `Client` waits by `sleep`, `AsyncClient` by `async_sleep`.
    """

    within: float = 30.0
    timeout: float = 15.0
    first: float = 0.1
    longest: float = 5.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    async_sleep: Callable[[float], Awaitable[None]] = anyio.sleep

    def pauses(self) -> Iterator[float]:
        """The pause after the first try, the second …"""
        for attempt in count():
            # 2**60 times the first is more than any `longest`.
            most = min(self.longest, self.first * 2.0 ** min(attempt, 60))
            yield most * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret


def json_of(response: httpx.Response) -> Any:
    """The JSON of an answer. Raises ApiError where another kind of server answers."""
    try:
        return response.json()
    except ValueError as exc:
        error = ApiError(f"{response.request.url.path} was answered, but not with JSON", status=200)
        error.fix = "check the address: CUSTSVC_API_URL, as http://localhost:8000"
        raise error from exc
