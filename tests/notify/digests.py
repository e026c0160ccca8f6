"""Rules with digests, and changes of one customer for them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from custsvc.config import Settings
from custsvc.domain.customers import Customer, Fields, Stored, utc_now
from custsvc.domain.events import new_change
from custsvc.domain.received import ReceivedEvent, decode
from custsvc.notify.intake.notifications import notifications_of
from custsvc.notify.rules.file import load
from custsvc.notify.rules.rules import Rules
from custsvc.ports.ledger import Notification

HOUR = 3600.0


def rules_in(tmp_path: Path) -> Rules:
    """Rules of which some are sent as digests of an hour."""
    path = tmp_path / "notify.toml"
    path.write_text(
        '[[rule]]\nname = "changed"\nops = ["updated"]\ntemplate = "changed"\n'
        f'digest = {HOUR}\nchanged = ["name", "metadata"]\n'
        '[[rule]]\nname = "phone"\nops = ["updated"]\ntemplate = "changed"\nchanged = ["phone"]\n'
        '[[rule]]\nname = "erased"\nops = ["erased"]\ntemplate = "event"\n'
        f'digest = {HOUR}\nto = ["a@example.com"]\n'
    )
    return load(Settings(notify_rules=str(path)))


def changes(count: int, *, ago: float | None = None) -> list[ReceivedEvent]:
    """Updates of one customer, version 2 and on: the name, and every second time the plan too."""
    now = utc_now().replace(minute=10) if ago is None else utc_now() - dt.timedelta(seconds=ago)
    before = Customer(7, Fields("Name 1", "ada@example.com"), False, 1, now, "t", now, "t")
    found = []
    for number in range(2, count + 2):
        fields = Fields(f"Name {number}", "ada@example.com", None, {"plan": f"p{number // 2}"})
        after = before.changed_to(fields=fields, deleted=False, now=now, by="t")
        stored = Stored(7, before.version, False, before.encode())
        found.append(decode(new_change("updated", stored, after, actor="t").event.payload, b"7"))
        before = after
    return found


def rows(rules: Rules, events: list[ReceivedEvent]) -> list[Notification]:
    return [row for event in events for row in notifications_of(event, rules, None)]
