"""The port of answers: the results of requests with an Idempotency-Key."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final, Protocol

ANSWER_KEPT: Final = dt.timedelta(hours=24)
"""How long an idempotency key is remembered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a request with an Idempotency-Key, stored for repetitions of that request.

    `principal` and `key` name it, `request` is the hash of what was asked, `body` JSON of the caller's own.
    """

    principal: str
    key: str
    request: bytes
    body: bytes
    created_on: dt.datetime


class Answers(Protocol):
    """Answers under idempotency keys; each is kept for a day."""

    def find(self, principal: str, key: str, now: dt.datetime) -> Answer | None:
        """The answer stored under this key, if it is not a day old."""

    def add(self, answer: Answer) -> None:
        """Store the answer to a request that changed nothing. Raises KeyTaken if one exists."""

    def prune(self, now: dt.datetime) -> int:
        """Delete answers that are a day old, some thousands at a time; return how many."""
