"""Digests: all that happens to a customer within a window becomes one notification at its end.

Its row is made by the first event and given more by the next ones, as long as nobody has begun to send it.
An event that comes too late for that gets a row of its own. Events that come again change nothing: a row
knows the version up to which it tells.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Iterable
from typing import Any

import orjson

from ..customer import parse_time
from ..events import ReceivedEvent
from ..stores.base import Ledger, Notification
from .ids import notification_id
from .rules import FieldChange, Rule, Rules
from .templates import BrokenTemplate

logger = logging.getLogger(__name__)

_EVENTS_MAX = 50


def window(event: ReceivedEvent, rule: Rule) -> tuple[str, dt.datetime]:
    """The name of the event's window, and when it ends; by the event's own time, so that it never differs."""
    at = parse_time(event.event_ts).timestamp()
    number = int(at // rule.digest)
    end = dt.datetime.fromtimestamp((number + 1) * rule.digest, dt.UTC)
    return f"{event.customer_id}/{rule.digest:g}/{number}", end


def packed(shown: dict[str, Any]) -> str:
    """What a row keeps of an event's values, to tell it together with later ones."""
    changes = [dataclasses.astuple(change) for change in shown["changes"]]
    return orjson.dumps({**shown, "changes": changes}).decode()


def together(kept: str, new: str) -> dict[str, Any]:
    """The values of both: of each field the oldest old value and the newest new one, and all the events."""
    old, shown = orjson.loads(kept), orjson.loads(new)
    changes: dict[str, tuple[str, str]] = {label: (was, now) for label, was, now in old["changes"]}
    for label, was, now in shown["changes"]:
        changes[label] = (changes[label][0] if label in changes else was, now)
    return {
        **shown,
        "changes": [FieldChange(label, was, now) for label, (was, now) in changes.items() if was != now],
        "more_changes": old["more_changes"] + shown["more_changes"],
        "events": (old["events"] + shown["events"])[-_EVENTS_MAX:],
    }


class Digests:
    """Puts rows of digests into the ledger."""

    def __init__(self, ledger: Ledger, rules: Rules) -> None:
        self._ledger = ledger
        self._rules = rules
        self._template = {rule.name: rule.template for rule in rules.rules}

    def add(self, rows: Iterable[Notification]) -> int:
        """Add each to the digest of its window; returns how many notifications are new."""
        by_id: dict[str, list[Notification]] = {}
        for row in rows:
            by_id.setdefault(row.id, []).append(row)
        there = {row.id: row for row in self._ledger.find(list(by_id))}
        return sum(self._add(there.get(id_), news) for id_, news in by_id.items())

    def _add(self, there: Notification | None, news: list[Notification]) -> int:
        known = there.version if there else 0
        fresh = sorted((row for row in news if row.version > known), key=lambda row: row.version)
        if not fresh:
            return 0
        grown = self._all_of(there, fresh)
        if there is None and grown is not None and self._ledger.add([grown]):
            return 1
        if there is not None and grown is not None and self._ledger.revise(grown, there.version):
            return 0
        # It is on its way, cannot tell of them all, or somebody else was here first: tell each for itself.
        return self._ledger.add([self._alone(row) for row in fresh])

    def _all_of(self, there: Notification | None, fresh: list[Notification]) -> Notification | None:
        """The digest that tells of these too; None where its template cannot."""
        grown = there
        try:
            for row in fresh:
                grown = row if grown is None else self._grown(grown, row)
        except BrokenTemplate as exc:
            logger.warning("A digest cannot be made: %s", exc, extra={"action": "broken_template"})
            return None
        return grown

    def _grown(self, kept: Notification, new: Notification) -> Notification:
        shown = together(kept.entries or "", new.entries or "")
        content = self._rules.templates.render(self._template[new.rule], shown)
        return dataclasses.replace(
            new,
            next_at=kept.next_at,
            subject=content.subject,
            text=content.text,
            html=content.html,
            entries=packed(shown),
        )

    def _alone(self, row: Notification) -> Notification:
        return dataclasses.replace(
            row, id=notification_id(f"{row.id}/{row.version}", row.rule, row.recipient)
        )
