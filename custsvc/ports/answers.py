"""The port of answers: what requests with an Idempotency-Key came to."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final, Protocol

ANSWER_KEPT: Final = dt.timedelta(hours=24)
"""How long an idempotency key is remembered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request with an Idempotency-Key came to: kept so that the same request, sent again, gets it.

    `principal` and `key` name it, `request` is the hash of what was asked, `body` JSON of the caller's own.
    """

    principal: str
    key: str
    request: bytes
    body: bytes
    created_on: dt.datetime


class Answers(Protocol):
    """Answers under idempotency keys, for a day; then it is as if they had never been."""

    def find(self, principal: str, key: str, now: dt.datetime) -> Answer | None:
        """The answer kept under this key, if it is not a day old."""

    def add(self, answer: Answer) -> None:
        """Keep the answer to a request that changed nothing. Raises KeyTaken where there is one."""

    def prune(self, now: dt.datetime) -> int:
        """Forget answers that are a day old, some thousands at a time; returns how many."""
