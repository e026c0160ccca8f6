"""Intake: from the topics to the ledger, one row per event, rule and recipient.

Offsets are committed after the ledger has the rows durably; a record that comes again finds its rows there.
A record that cannot be read is told and counted, and its neighbours go on: of the updates topic, replicate
puts it on the dead-letter topic; a mail request goes to the failed topic from here.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import math
import threading
import time
from collections import Counter
from typing import Any

import orjson

from ...config import Settings
from ...domain.events import decode, stated_time
from ...errors import BadEvent, NewerSchema
from ...kafka.client import Publisher, Record
from ...kafka.consume import Consuming, Offsets
from ...ports.ledger import Ledger, Notification, Recipients
from ...runtime.loop import Stop
from ...service.leftovers import forget_addresses
from ..channels.unsubscribe import UnsubscribeLinks
from ..rules.rules import Rules
from . import request
from .digest import Digests, event_time
from .failed import rejected
from .notifications import notifications_of, of_request

logger = logging.getLogger(__name__)

GROUP = "custsvc-notify"
BATCH = 500
# Seconds that an event may take to get here.
_ON_TIME = 2.0
# The newest rows tell which addresses a customer had, and whether others have them.
_LOOKED_AT = 1000


class Intake:
    """Writes down what the records of both topics call for."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        publisher: Publisher,
        stop: Stop,
        *,
        rules: Rules,
        recipients: Recipients | None = None,
        links: UnsubscribeLinks | None = None,
        bell: threading.Event | None = None,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._recipients = recipients
        self._publisher = publisher
        self._stop = stop
        self._rules = rules
        self._digests = Digests(ledger, rules)
        self._links = links
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
        self._erased: dict[int, int] = {}
        # Per partition of the batch in hand, when the newest of its events happened.
        self._newest: dict[int, float] = {}
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        """Take records until stop is asked. Raises NewerSchema: going on would lose that mail."""
        self._consuming.run()

    def _handle(self, messages: list[Any], _offsets: Offsets) -> None:
        rows: list[Notification] = []
        bad: list[Record] = []
        self._newest.clear()
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
        self._add(rows, self._behind())
        self._forget()

    def _forget(self) -> None:
        """What was queued and sent for customers who were erased since says nothing about them any more."""
        for customer_id, version in self._erased.items():
            self._consuming.insist(functools.partial(self._forget_addresses, customer_id))
            gone = self._consuming.insist(functools.partial(self._ledger.forget, customer_id, version))
            logger.info(
                "Blanked %d notifications of customer %d, who was erased",
                gone,
                customer_id,
                extra={"action": "erased", "customer_id": customer_id, "count": gone},
            )
        self._erased.clear()

    def _forget_addresses(self, customer_id: int) -> None:
        """Forget that the customer's addresses get no mail, but for those that others were written to."""
        if self._recipients is None:
            return
        mine = {row.recipient for row in self._ledger.recent(customer_id=customer_id, limit=_LOOKED_AT)}
        forget_addresses(self._recipients, {each for each in mine if self._is_of(each, customer_id)})

    def _is_of(self, address: str, customer_id: int) -> bool:
        """Whether nobody else was written to there."""
        rows = self._ledger.recent(recipient=address, limit=_LOOKED_AT)
        return all(row.customer_id == customer_id for row in rows)

    def _behind(self) -> float:
        """How many seconds the events of this batch lie back, of the partition that is furthest behind."""
        late = time.time() - min(self._newest.values(), default=math.inf)
        return late if late > _ON_TIME else 0.0

    def _add(self, rows: list[Notification], behind: float) -> None:
        added = self._consuming.insist(lambda: self._digests.add(rows, behind))
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
        if event.op == "erased":
            self._erased[event.customer_id] = event.version
        if self._is_old(stated_time(event.event_ts), message):
            return self._too_old(notifications_of(event, self._rules, self._links))
        part = message.partition()
        self._newest[part] = max(event_time(event), self._newest.get(part, -math.inf))
        return notifications_of(event, self._rules, self._links)

    def _of_request(self, message: Any) -> list[Notification]:
        asked = request.read(message.value())
        rows = of_request(asked, asked.id or _own_id(message))
        return self._too_old(rows) if self._is_old(None, message) else rows

    def _is_old(self, time_of_event: float | None, message: Any) -> bool:
        """Whether it must not be mailed any more, as after offsets were reset."""
        if time_of_event is None:
            time_of_event = _time(message)
        old = time_of_event is not None and time.time() - time_of_event > self._settings.notify_max_age
        if old:
            self.counts["suppressed"] += 1
        return old

    def _too_old(self, rows: list[Notification]) -> list[Notification]:
        """Kept with the reason, so that nothing is dropped without a word; what was mailed stays as it is.

        A digest's row keeps its id: one that was sent is not told of again.
        """
        reason = (
            f"it was older than {self._settings.notify_max_age:g} s when it came in (CUSTSVC_NOTIFY_MAX_AGE)"
        )
        return [
            dataclasses.replace(row, state="suppressed", reason=reason, entries=None, next_at=None)
            if row.state == "queued"
            else row
            for row in rows
        ]

    def _tell_bad(self, message: Any, kind: str, reason: str) -> None:
        self.counts["bad"] += 1
        logger.error(
            "A record cannot be read: %s",
            reason,
            extra={"action": "bad_record", "kind": kind, **_coordinates(message)},
        )


def _time(message: Any) -> float | None:
    """When a record was sent, in seconds since 1970, by its timestamp; None where it has none.

    Those are milliseconds. Some producers write seconds, microseconds or nanoseconds: as milliseconds they
    would lie before 1973 or after 5138.
    """
    kind, stamp = message.timestamp()
    if kind == 0 or stamp <= 0:
        return None
    unit = 1.0 if stamp < 1e11 else 1e3 if stamp < 1e14 else 1e6 if stamp < 1e17 else 1e9
    return float(stamp) / unit


def _own_id(message: Any) -> str:
    """An id for a request without one: the same when it is read again, another in a topic made anew."""
    where = _coordinates(message)
    what = [*where.values(), message.timestamp()[1], (message.value() or b"").decode("utf-8", "replace")]
    digest = hashlib.blake2b(orjson.dumps(what), digest_size=8).hexdigest()
    return f"{where['topic'][:100]}/{where['partition']}/{where['offset']}/{digest}"


def _coordinates(message: Any) -> dict[str, Any]:
    return {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
