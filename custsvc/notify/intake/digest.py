"""Digests: all events of a customer within a window become one notification at its end.

The first event makes its row and the next ones are added to it, until a sender has begun with it. Events that
come too late for that go into a second one, and so on: their ids follow from that of the first. Events that
come again change nothing: a row holds the version up to which it reports.

A window that is over when its events are taken in, as after an outage, waits a little for the rest of them.
No clock puts a digest off for longer than its window lasts.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from ...domain.customers import parse_time, utc_now
from ...domain.events import ReceivedEvent, stated_time
from ...ports.ledger import Grown, Ledger, Notification, Overtaken
from ..rules.rules import FieldChange, Rule, Rules
from ..rules.templates import BrokenTemplate
from .ids import notification_id

logger = logging.getLogger(__name__)

_EVENTS_MAX = 50
# Seconds that a window which is over waits for more of its events after each of them: a tenth of the window.
_GRACE_MIN: Final = 10.0
_GRACE_MAX: Final = 300.0
# Seconds after which events that came too late for their digest are mailed at the latest.
_SECOND_MAX: Final = 3600.0
# So many digests of a window are looked for at a time; nearly always there is one, or none yet.
_LOOK_AHEAD: Final = 2


def event_time(event: ReceivedEvent) -> float:
    """When it happened, in seconds since 1970; where it does not say so, when the customer was changed."""
    stated = stated_time(event.event_ts)
    return parse_time(event.after["updated_on"]).timestamp() if stated is None else stated


def window(event: ReceivedEvent, rule: Rule) -> tuple[str, dt.datetime]:
    """The name of the event's window, and when it ends, but at most a window's length from now.

    The name is by the event's own time, so that it never differs.
    """
    number = int(event_time(event) // rule.digest)
    farthest = utc_now() + dt.timedelta(seconds=rule.digest)
    end = max(0.0, (number + 1) * rule.digest)
    ends = farthest if end > farthest.timestamp() else dt.datetime.fromtimestamp(end, dt.UTC)
    return f"{event.customer_id}/{rule.digest:g}/{number}", ends


def packed(shown: Mapping[str, Any]) -> str:
    """An event's values as a row keeps them, to be put together with those of later events."""
    changes = [dataclasses.astuple(change) for change in shown["changes"]]
    return orjson.dumps({**shown, "changes": changes}).decode()


def together(entries: Iterable[str]) -> dict[str, Any]:
    """The values of all: of each field the oldest old value and the newest new one, and all the events."""
    shown: dict[str, Any] = {}
    changes: dict[str, tuple[str, str]] = {}
    events: list[Any] = []
    more = 0
    for kept in entries:
        shown = orjson.loads(kept)
        for label, was, now in shown["changes"]:
            changes[label] = (changes[label][0] if label in changes else was, now)
        events += shown["events"]
        more += shown["more_changes"]
    return {
        **shown,
        "changes": [FieldChange(label, was, now) for label, (was, now) in changes.items() if was != now],
        "more_changes": more,
        "events": events[-_EVENTS_MAX:],
    }


class _Last(NamedTuple):
    """The last digest of a window that is there, and the number of the next one."""

    there: Notification | None
    next: int


class _Plan(NamedTuple):
    """Notifications to add, and digests to give more to."""

    new: list[Notification]
    grown: list[Grown]


class Digests:
    """Puts notifications into the ledger, those of digests together with others of their windows."""

    def __init__(self, ledger: Ledger, rules: Rules) -> None:
        self._ledger = ledger
        self._rules = rules
        self._rule = {rule.name: rule for rule in rules.rules}

    def add(self, rows: Iterable[Notification], behind: float = 0.0) -> int:
        """Add all that a batch calls for, in one step; returns how many notifications are new.

        `behind`: seconds that the events lie back, so that the rest of a window comes so much later too.
        """
        singles, windows = _by_window(rows)
        added = 0
        while True:
            new, grown = self._plan(windows, behind)
            try:
                return added + self._ledger.add([*singles, *new], grown)
            except Overtaken as exc:
                added += exc.added

    # -- what is to be written ------------------------------------------------------------------------------

    def _plan(self, windows: Mapping[str, list[Notification]], behind: float) -> _Plan:
        """What to write, by the ledger as it is now."""
        plan = _Plan([], [])
        for id_, last in self._last_of(windows).items():
            known = last.there.version if last.there else 0
            fresh = sorted((row for row in windows[id_] if row.version > known), key=lambda row: row.version)
            if fresh:
                self._plan_window(fresh, last, behind, plan)
        return plan

    def _plan_window(self, fresh: list[Notification], last: _Last, behind: float, plan: _Plan) -> None:
        """Give these to the last digest of their window, else begin the next one."""
        there = last.there if last.there is not None and _may_grow(last.there) else None
        told = self._told(fresh if there is None else [there, *fresh])
        if told is None:
            plan.new.extend(_alone(row) for row in fresh)
        elif there is None:
            plan.new.append(self._begun(told, fresh[0], last, behind))
        else:
            next_at = self._due(there, fresh[-1], behind)
            plan.grown.append(Grown(dataclasses.replace(told, id=there.id, next_at=next_at), there.version))

    def _last_of(self, windows: Mapping[str, list[Notification]]) -> dict[str, _Last]:
        """Per window the last of its digests."""
        found = {id_: _Last(None, 1) for id_ in windows}
        open_ones = set(windows)
        while open_ones:
            ahead = {
                id_: [_nth(windows[id_][0], found[id_].next + more) for more in range(_LOOK_AHEAD)]
                for id_ in open_ones
            }
            there = {row.id: row for row in self._ledger.find([one for ids in ahead.values() for one in ids])}
            for id_, ids in ahead.items():
                for each in ids:
                    if each not in there:
                        open_ones.discard(id_)
                        break
                    found[id_] = _Last(there[each], found[id_].next + 1)
        return found

    def _told(self, rows: list[Notification]) -> Notification | None:
        """The last of these with a text about all of them; None where their template cannot make one."""
        last = rows[-1]
        if len(rows) == 1:
            return last
        shown = together(row.entries or "" for row in rows)
        try:
            content = self._rules.templates.render(self._rule[last.rule].template, shown)
        except BrokenTemplate as exc:
            logger.warning("A digest cannot be made: %s", exc, extra={"action": "broken_template"})
            return None
        return dataclasses.replace(
            last, subject=content.subject, text=content.text, html=content.html, entries=packed(shown)
        )

    # -- when ----------------------------------------------------------------------------------------------

    def _begun(self, told: Notification, first: Notification, last: _Last, behind: float) -> Notification:
        """A new digest, the first of its window or one that follows."""
        if last.there is None:
            next_at = self._due(None, told, behind)
        else:
            length = min(self._rule[told.rule].digest, _SECOND_MAX)
            next_at = utc_now() + dt.timedelta(seconds=length)
        id_ = _nth(told, last.next)
        return dataclasses.replace(told, id=id_, next_at=next_at, first_version=first.version)

    def _due(self, there: Notification | None, row: Notification, behind: float) -> dt.datetime | None:
        """When a digest is due: at the end of its window, or a while after its last event.

        Counted from its beginning, it is never longer than the window.
        """
        length, now = self._rule[row.rule].digest, utc_now()
        end = row.next_at or now
        grace = min(max(_GRACE_MIN, length / 10), _GRACE_MAX)
        if end > now:
            due = end + dt.timedelta(seconds=min(behind, grace))
        else:
            due = now + dt.timedelta(seconds=grace)
        begun = (there and there.created_on) or now
        due = min(due, begun + dt.timedelta(seconds=length))
        known = there.next_at if there else None
        return due if known is None else max(known, due)


def _by_window(
    rows: Iterable[Notification],
) -> tuple[list[Notification], dict[str, list[Notification]]]:
    """Those of no digest, and the others by the id of the first digest of their window."""
    singles: list[Notification] = []
    windows: dict[str, list[Notification]] = {}
    for row in rows:
        (singles if row.entries is None else windows.setdefault(row.id, [])).append(row)
    return singles, windows


def _may_grow(there: Notification) -> bool:
    """Whether no sender has begun with it, and it still has its entries."""
    return there.state == "queued" and there.attempts == 0 and there.entries is not None


def _nth(row: Notification, number: int) -> str:
    """The id of a window's nth digest."""
    return row.id if number == 1 else notification_id(f"{row.id}/#{number}", row.rule, row.recipient)


def _alone(row: Notification) -> Notification:
    """A notification of one event."""
    id_ = notification_id(f"{row.id}/{row.version}", row.rule, row.recipient)
    return dataclasses.replace(row, id=id_, entries=None)
