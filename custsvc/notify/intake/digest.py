"""Digests: all events of a customer within a window become one notification at its end.

The first event makes the row, and later events are added to it until a sender has begun to send it. Events
that come after that go into a second digest, and so on: their ids derive from the first one's. Repeated
events change nothing: a row holds the version up to which it reports.

A window that is already over when its events arrive, as after an outage, waits a little for more of them. No
clock difference delays a digest by more than the length of its window.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from ...domain.customers import parse_time, utc_now
from ...domain.digest import PLAIN, is_plain
from ...domain.received import ReceivedEvent, stated_time
from ...ports.ledger import Grown, Ledger, Notification, Overtaken
from ..rules.rules import FieldChange, Rule, Rules
from ..rules.templates import BrokenTemplate
from .ids import notification_id

logger = logging.getLogger(__name__)

_EVENTS_MAX = 50
# After each event, a window that is over waits a tenth of its length for more: at least and at most seconds.
_GRACE_MIN: Final = 10.0
_GRACE_MAX: Final = 300.0
# Most seconds until events that came too late for their digest are mailed.
_SECOND_MAX: Final = 3600.0
# How many digests of a window are looked up at once; nearly always there is one, or none yet.
_LOOK_AHEAD: Final = 2


def event_time(event: ReceivedEvent) -> float:
    """When the event happened, as Unix time; if it does not say so, when the customer was changed."""
    stated = stated_time(event.event_ts)
    return parse_time(event.after["updated_on"]).timestamp() if stated is None else stated


def window(event: ReceivedEvent, rule: Rule) -> tuple[str, dt.datetime]:
    """The name of the event's window, and its end, which is at most a window's length from now.

    The name depends only on the event's own time, so it is always the same.
    """
    number = int(event_time(event) // rule.digest)
    farthest = utc_now() + dt.timedelta(seconds=rule.digest)
    end = max(0.0, (number + 1) * rule.digest)
    ends = farthest if end > farthest.timestamp() else dt.datetime.fromtimestamp(end, dt.UTC)
    return f"{event.customer_id}/{rule.digest:g}/{number}", ends


def packed(shown: Mapping[str, Any]) -> str:
    """An event's values as a row stores them, to merge them with those of later events."""
    changes = [dataclasses.astuple(change) for change in shown["changes"]]
    return orjson.dumps({**shown, "changes": changes}).decode()


def together(entries: Iterable[str]) -> dict[str, Any]:
    """The merged values: for each field the oldest old value and the newest new one, and all events."""
    shown: dict[str, Any] = {}
    changes: dict[str, tuple[str, str]] = {}
    events: list[Any] = []
    more, plain = 0, True
    for kept in entries:
        shown = orjson.loads(kept)
        for label, was, now in shown["changes"]:
            changes[label] = (changes[label][0] if label in changes else was, now)
        events += shown["events"]
        more += shown["more_changes"]
        plain &= shown.get(PLAIN, is_plain(shown))
    return {
        **shown,
        "changes": [FieldChange(label, was, now) for label, (was, now) in changes.items() if was != now],
        "more_changes": more,
        "events": events[-_EVENTS_MAX:],
        PLAIN: plain,
    }


class _Last(NamedTuple):
    """The last existing digest of a window, and the number of the next one."""

    there: Notification | None
    next: int


class _Plan(NamedTuple):
    """Notifications to add, and digests to extend."""

    new: list[Notification]
    grown: list[Grown]


class Digests:
    """Adds notifications to the ledger; merges those of digests with others of their windows."""

    def __init__(self, ledger: Ledger, rules: Rules) -> None:
        self._ledger = ledger
        self._rules = rules
        self._rule = {rule.name: rule for rule in rules.rules}

    def add(self, rows: Iterable[Notification], behind: float = 0.0) -> int:
        """Add all notifications of a batch, in one step; return how many are new.

        `behind`: the age of the events in seconds; the rest of a window arrives that much later too.
        """
        singles, windows = _by_window(rows)
        added = 0
        while True:
            new, grown = self._plan(windows, behind)
            try:
                return added + self._ledger.add([*singles, *new], grown)
            except Overtaken as exc:
                added += exc.added

    # -- what to write --------------------------------------------------------------------------------------

    def _plan(self, windows: Mapping[str, list[Notification]], behind: float) -> _Plan:
        """Decide what to write, given the ledger as it is now."""
        plan = _Plan([], [])
        for id_, last in self._last_of(windows).items():
            known = last.there.version if last.there else 0
            # A record that was sent to Kafka twice may be twice in one batch.
            by_version = {row.version: row for row in windows[id_] if row.version > known}
            fresh = [by_version[version] for version in sorted(by_version)]
            if fresh:
                self._plan_window(fresh, last, behind, plan)
        return plan

    def _plan_window(self, fresh: list[Notification], last: _Last, behind: float, plan: _Plan) -> None:
        """Add these to the last digest of their window, or begin the next one."""
        there = last.there if last.there is not None and _may_grow(last.there) else None
        combined = self._combined(fresh if there is None else [there, *fresh])
        if combined is None:
            plan.new.extend(_alone(row) for row in fresh)
        elif there is None:
            plan.new.append(self._begun(combined, fresh[0], last, behind))
        else:
            next_at = self._due(there, fresh[-1], behind)
            plan.grown.append(
                Grown(dataclasses.replace(combined, id=there.id, next_at=next_at), there.version)
            )

    def _last_of(self, windows: Mapping[str, list[Notification]]) -> dict[str, _Last]:
        """The last digest of each window."""
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

    def _combined(self, rows: list[Notification]) -> Notification | None:
        """The last of these rows, with a text about all of them; None if their template fails."""
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

    def _begun(self, combined: Notification, first: Notification, last: _Last, behind: float) -> Notification:
        """A new digest, the first of its window or a later one."""
        if last.there is None:
            next_at = self._due(None, combined, behind)
        else:
            length = min(self._rule[combined.rule].digest, _SECOND_MAX)
            next_at = utc_now() + dt.timedelta(seconds=length)
        id_ = _nth(combined, last.next)
        return dataclasses.replace(combined, id=id_, next_at=next_at, first_version=first.version)

    def _due(self, there: Notification | None, row: Notification, behind: float) -> dt.datetime | None:
        """When a digest is due: at the end of its window, or a while after its last event.

        It is never later than a window's length after the digest was begun.
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
    """The notifications without a digest, and the others by the id of their window's first digest."""
    singles: list[Notification] = []
    windows: dict[str, list[Notification]] = {}
    for row in rows:
        (singles if row.entries is None else windows.setdefault(row.id, [])).append(row)
    return singles, windows


def _may_grow(there: Notification) -> bool:
    """Whether no sender has begun to send it, and it still has its entries."""
    return there.state == "queued" and there.attempts == 0 and there.entries is not None


def _nth(row: Notification, number: int) -> str:
    """The id of a window's nth digest."""
    return row.id if number == 1 else notification_id(f"{row.id}/#{number}", row.rule, row.recipient)


def _alone(row: Notification) -> Notification:
    """A notification of one event."""
    id_ = notification_id(f"{row.id}/{row.version}", row.rule, row.recipient)
    return dataclasses.replace(row, id=id_, entries=None)
