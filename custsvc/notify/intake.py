"""Intake: from the topics to the ledger, one row per event, rule and recipient.

Offsets are committed after the ledger has the rows durably; a record that comes again finds its rows there.
A record that cannot be read is told and counted, and its neighbours go on: of the updates topic, replicate
puts it on the dead-letter topic; a mail request goes to the failed topic from here.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson

from ..config import Settings
from ..customer import parse_time
from ..errors import BadEvent, NewerSchema
from ..events import ReceivedEvent, decode
from ..kafka import Publisher, Record
from ..stores.base import Ledger, Notification
from ..workers.consume import Consuming
from ..workers.loop import Stop
from . import request, rules, templates
from .address import BadAddress, one_address
from .failed import rejected
from .text import one_line

logger = logging.getLogger(__name__)

GROUP = "custsvc-notify"
BATCH = 500
_ID_MAX = 200
_RECIPIENT_MAX = 320


class Intake:
    """Writes down what the records of both topics call for."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        publisher: Publisher,
        stop: Stop,
        *,
        rule_list: Sequence[rules.Rule] = rules.DEFAULT_RULES,
        bell: threading.Event | None = None,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._publisher = publisher
        self._stop = stop
        self._rules = rule_list
        self._bell = bell or threading.Event()
        self._consuming = Consuming(
            settings,
            GROUP,
            [settings.topic_updates, settings.topic_notify],
            self._handle,
            stop,
            what="intake",
            batch=BATCH,
        )
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        """Take records until stop is asked. Raises NewerSchema: going on would lose that mail."""
        self._consuming.run()

    def _handle(self, messages: list[Any]) -> None:
        rows: list[Notification] = []
        bad: list[Record] = []
        before = self.counts.copy()
        for message in messages:
            try:
                rows += self.notifications(message)
            except request.BadRequest as exc:
                self._tell_bad(message, "bad-request", str(exc))
                bad.append(rejected(message.value(), message.key(), str(exc), _coordinates(message)))
        if suppressed := self.counts["suppressed"] - before["suppressed"]:
            logger.warning(
                "%d records are older than %g s, so they are not mailed",
                suppressed,
                self._settings.notify_max_age,
                extra={"action": "suppressed", "count": suppressed},
            )
        if bad:
            self._publisher.send(self._settings.topic_failed, bad, give_up=self._stop.asked)
        self._add(rows)

    def _add(self, rows: list[Notification]) -> None:
        added = self._consuming.insist(lambda: self._ledger.add(rows))
        if added:
            self.counts["added"] += added
            self._bell.set()
        logger.debug("Queued %d mails", added, extra={"action": "queued", "count": added})

    # -- from a record to rows ------------------------------------------------------------------------------

    def notifications(self, message: Any) -> list[Notification]:
        """The rows that a record calls for. Raises BadRequest, and NewerSchema with the coordinates."""
        if message.topic() == self._settings.topic_notify:
            return self._of_request(message)
        if message.value() is None:
            return []
        try:
            event = decode(message.value(), message.key())
        except BadEvent as exc:
            self._tell_bad(message, exc.reason_class, str(exc))
            return []
        except NewerSchema as exc:
            where = "{topic} partition {partition} offset {offset}".format(**_coordinates(message))
            raise NewerSchema(f"{exc} ({where})", fix=exc.fix) from exc
        if self._is_old(_event_time(event), message):
            return []
        return self._of_event(event)

    def _of_event(self, event: ReceivedEvent) -> list[Notification]:
        found: list[Notification] = []
        event_id = one_line(event.id, _ID_MAX) or f"{event.customer_id}.{event.version}"
        shown: dict[str, Any] | None = None
        for rule, recipient in rules.matches(event, self._rules):
            shown = shown or rules.values(event)
            content = templates.render(rule.template, shown)
            found.append(
                _notification(event_id, event.customer_id, event.version, rule.name, recipient, content)
            )
        return found

    def _of_request(self, message: Any) -> list[Notification]:
        asked = request.read(message.value())
        if self._is_old(None, message):
            return []
        event_id = asked.id or "{topic}/{partition}/{offset}".format(**_coordinates(message))
        content = templates.Content(asked.subject, asked.text, asked.html)
        return [
            _notification(one_line(event_id, _ID_MAX), None, 0, "mail-request", recipient, content)
            for recipient in asked.recipients
        ]

    def _is_old(self, time_of_event: float | None, message: Any) -> bool:
        """Whether it must not be mailed any more, as after offsets were reset."""
        if time_of_event is None:
            kind, millis = message.timestamp()
            if kind == 0:
                return False
            time_of_event = millis / 1000
        old = time.time() - time_of_event > self._settings.notify_max_age
        if old:
            self.counts["suppressed"] += 1
        return old

    def _tell_bad(self, message: Any, kind: str, reason: str) -> None:
        self.counts["bad"] += 1
        logger.error(
            "A record cannot be read: %s",
            reason,
            extra={"action": "bad_record", "kind": kind, **_coordinates(message)},
        )


def _notification(
    event_id: str,
    customer_id: int | None,
    version: int,
    rule: str,
    recipient: str,
    content: templates.Content,
) -> Notification:
    """A row of the ledger; one whose recipient is no address has failed already, where all can see it."""
    refused: str | None = None
    try:
        recipient = one_address(recipient).spec
    except BadAddress as exc:
        refused = str(exc)
    return Notification(
        id=notification_id(event_id, rule, recipient),
        event_id=event_id,
        customer_id=customer_id,
        version=version,
        rule=rule,
        recipient=one_line(recipient, _RECIPIENT_MAX),
        subject=content.subject,
        text=content.text,
        html=content.html,
        state="failed" if refused else "queued",
        reason=refused,
    )


def notification_id(event_id: str, rule: str, recipient: str) -> str:
    """The id that an event, a rule and a recipient always give."""
    return hashlib.blake2b(orjson.dumps([event_id, rule, recipient]), digest_size=16).hexdigest()


def _event_time(event: ReceivedEvent) -> float | None:
    try:
        return parse_time(event.event_ts).timestamp()
    except ValueError:
        return None


def _coordinates(message: Any) -> dict[str, Any]:
    return {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}


__all__ = ["BATCH", "GROUP", "Intake", "notification_id"]
