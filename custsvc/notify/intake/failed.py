"""The failed topic: each failed mail goes there, and is marked as published once Kafka acknowledges it.

A record has the form of a mail request for the one recipient, with the attempts and the reason added: put on
the notification topic again under a new id, it is sent again.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import orjson

from ...domain.customers import format_time
from ...errors import TemporaryError
from ...kafka.publisher import Publisher, Record
from ...ports.ledger import Attempt, Ledger, Notification
from ...runtime.loop import Outage, Stop, insist

logger = logging.getLogger(__name__)

_BATCH = 100
# Most bytes of a record; the topic usually takes a million, with its key.
_FITS = 900_000
# What is kept of a text that does not fit, in characters, and of a key, in bytes.
_BEGINNING = 50_000
_KEY_MAX = 10_000
# Seconds for which no other process may publish the same mails.
LEASE = 120.0


class FailedTopic:
    """Publishes failed mails from the ledger to the failed topic."""

    def __init__(
        self, ledger: Ledger, publisher: Publisher, topic: str, stop: Stop, *, lease: float = LEASE
    ) -> None:
        self._lease = lease
        self._ledger = ledger
        self._publisher = publisher
        self._topic = topic
        self._stop = stop

    def run(self, idle: float = 1.0) -> None:
        """Publish until stop is asked; wait out outages of Kafka and the ledger."""
        outage = Outage("The failed topic")
        while not self._stop.asked():
            try:
                if not self.publish():
                    self._stop.wait(idle)
                outage.over()
            except TemporaryError as exc:
                if not self._stop.asked():
                    self._stop.wait(outage.failed(exc))

    def publish(self) -> int:
        """Publish a batch of mails that are not confirmed yet; return how many."""
        failures = self._ledger.unpublished_failures(_BATCH, self._lease)
        if not failures:
            return 0
        ids = [notification.id for notification in failures]
        attempts = self._ledger.attempts(ids)
        records = [_record(notification, attempts.get(notification.id, [])) for notification in failures]
        # Give up well before the lease ends: after it another process may publish the same mails.
        until = time.monotonic() + self._lease / 2
        self._publisher.send(
            self._topic, records, give_up=lambda: self._stop.asked() or time.monotonic() > until
        )
        self._confirm(ids)
        logger.info("%d failed mails went to %s", len(ids), self._topic, extra={"action": "failed_published"})
        return len(ids)

    def _confirm(self, ids: list[str]) -> None:
        """Record that Kafka has these mails; retry until stop is asked, or they are published again."""
        outage = Outage("The failed topic", base=0.2, cap=5.0)
        insist(lambda: self._ledger.published(ids), outage, self._stop.wait, give_up=self._stop.asked)


def _record(notification: Notification, attempts: list[Attempt]) -> Record:
    value = {
        "id": notification.event_id,
        "notifyTo": notification.recipient,
        "notifyCC": None,
        "notifyBCC": None,
        "subject": notification.subject,
        "textMsg": notification.text,
        "htmlMsg": notification.html,
        "notification_id": notification.id,
        "rule": notification.rule,
        "customer_id": notification.customer_id,
        "version": notification.version,
        "reason": notification.reason,
        "attempts": [_attempt(attempt) for attempt in attempts],
    }
    data = _fitting(value, "textMsg", "htmlMsg")
    return Record(_key(notification), data, [("content-type", b"application/json")])


def _fitting(value: dict[str, Any], *texts: str) -> bytes:
    """The JSON of a record; with only the beginnings of these texts if a topic might not take it."""
    data = orjson.dumps(value)
    if len(data) <= _FITS:
        return data
    cut = {name: value[name][:_BEGINNING] + "…" for name in texts if len(value[name] or "") > _BEGINNING}
    return orjson.dumps({**value, **cut})


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "time": format_time(attempt.tried_on),
        "outcome": attempt.outcome,
        "code": attempt.code,
        "text": attempt.text,
        "duration": round(attempt.duration, 3),
    }


def _key(notification: Notification) -> bytes:
    return str(notification.customer_id or notification.event_id).encode()


def unreadable(value: bytes | None, key: bytes | None, reason: str, place: dict[str, Any]) -> Record:
    """The record on the failed topic for an unreadable mail request."""
    text = (value or b"").decode("utf-8", "replace")
    about = {"request": text, "attempts": [], "reason": reason, **place}
    short = key if len(key or b"") <= _KEY_MAX else None
    return Record(short, _fitting(about, "request"), [("content-type", b"application/json")])
