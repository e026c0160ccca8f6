"""Answers under idempotency keys in PostgreSQL."""

from __future__ import annotations

import datetime as dt
from typing import Any

import psycopg2

from ...errors import KeyTaken
from ...ports.answers import ANSWER_KEPT, Answer
from .connection import Connections, Statement

_PRUNED_AT_ONCE = 5000

ADD_ANSWER = (
    "INSERT INTO answer (principal, key, request, body, created_on) VALUES (%s, %s, %s::bytea, %s, %s)"
)
_FIND = Statement(
    "find_answer",
    "text, text",
    "SELECT request, body, created_on FROM answer WHERE principal = $1 AND key = $2",
)


class PostgresAnswers:
    """The port `Answers` on PostgreSQL."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def find(self, principal: str, key: str, now: dt.datetime) -> Answer | None:
        for request, body, created_on in self._connections.read(_FIND, (principal, key)):
            if created_on > now - ANSWER_KEPT:
                return Answer(principal, key, bytes(request), body.encode(), created_on)
            self._forget(principal, key, now)
        return None

    def _forget(self, principal: str, key: str, now: dt.datetime) -> None:
        # An expired answer must not block the key for a new one.
        with self._connections.cursor() as cursor:
            cursor.execute(
                "DELETE FROM answer WHERE principal = %s AND key = %s AND created_on <= %s",
                (principal, key, now - ANSWER_KEPT),
            )

    def add(self, answer: Answer) -> None:
        try:
            with self._connections.cursor() as cursor:
                cursor.execute(ADD_ANSWER, answer_row(answer))
        except psycopg2.errors.UniqueViolation as exc:
            raise KeyTaken from exc

    def prune(self, now: dt.datetime) -> int:
        with self._connections.cursor() as cursor:
            cursor.execute(
                "DELETE FROM answer WHERE ctid = ANY (ARRAY("
                "SELECT ctid FROM answer WHERE created_on <= %s LIMIT %s FOR UPDATE SKIP LOCKED))",
                (now - ANSWER_KEPT, _PRUNED_AT_ONCE),
            )
            return cursor.rowcount


def answer_row(answer: Answer) -> tuple[Any, ...]:
    """The row of an answer, in the order of its columns."""
    return answer.principal, answer.key, answer.request, answer.body.decode(), answer.created_on


def is_key_taken(exc: psycopg2.Error) -> bool:
    """Whether the error says that the idempotency key is taken."""
    return exc.diag.constraint_name == "answer_pkey"
