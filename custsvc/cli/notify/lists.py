"""`notify list`, `show` and `unknown`: look notifications up."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .. import output
from ..common import ID_MAX, BackendOption, DataDirOption, OutputOption, say, time_of
from .common import RuleOption, SinceOption, StateOption, checked_state, opened_ledger

_COLUMNS = ("id", "state", "customer_id", "version", "rule", "recipient", "tries", "created_on", "reason")

CustomerOption = Annotated[
    int | None, typer.Option(help="Only notifications about this customer.", min=1, max=ID_MAX, metavar="ID")
]
ToOption = Annotated[
    str | None, typer.Option("--to", help="Only notifications to this address.", metavar="ADDRESS")
]


def list_notifications(
    state: StateOption = None,
    customer: CustomerOption = None,
    to: ToOption = None,
    rule: RuleOption = None,
    event: Annotated[str | None, typer.Option(help="Only notifications of this event.", metavar="ID")] = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option(help="At most N notifications.", min=1, max=100_000)] = 50,
    fmt: OutputOption = "table",
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show notifications, the newest first.

    States: queued, claimed, handing_over, sent, deferred, failed, unknown, suppressed, discarded.

    Example: custsvc notify list --state failed --since 2h
    """
    output.checked(fmt)
    asked = Asked(checked_state(state), customer, to, rule, event, time_of(since))
    asked.print(limit, fmt, backend, data_dir)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which notifications to show; all of them without any choice."""

    state: str | None = None
    customer: int | None = None
    to: str | None = None
    rule: str | None = None
    event: str | None = None
    since: dt.datetime | None = None

    def print(self, limit: int, fmt: str, backend: str | None, data_dir: Path | None) -> int:
        """Print them, and return how many there are; to a person also why the list is empty."""
        from ...notify import view

        with opened_ledger(backend, data_dir) as ledger:
            found = ledger.recent(
                state=self.state,
                customer_id=self.customer,
                recipient=self.to,
                rule=self.rule,
                event_id=self.event,
                since=self.since,
                limit=limit,
            )
        columns = _COLUMNS if fmt == "table" else tuple(view.row(found[0])) if found else _COLUMNS
        output.rows(fmt, columns, [view.row(each) for each in found], empty=self._none())
        return len(found)

    def _none(self) -> str:
        if self == Asked():
            return (
                "No mail was asked for yet. What a rule would send: custsvc notify preview --sample created"
            )
        if self == Asked(state=self.state):
            return f"No mail is {self.state}. All of them: custsvc notify list"
        return "No mail is like that. All of them: custsvc notify list"


def show(
    id: Annotated[str, typer.Argument(help="The notification's id.")],
    fmt: OutputOption = "table",
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show one notification: its text, and how each attempt ended.

    Example: custsvc notify show 3fd0bc4f1c0a4c0f9a54d6b1d7f1a9e2 -o json
    """
    from ...errors import NotFound
    from ...notify import view

    output.checked(fmt)
    with opened_ledger(backend, data_dir) as ledger:
        found = ledger.find([id])
        if not found:
            raise NotFound(f"there is no notification {id}", fix="see custsvc notify list")
        (item,) = view.with_attempts(ledger, found)
    if fmt != "table":
        output.rows(fmt, tuple(item), [{**item, "text": found[0].text, "html": found[0].html}])
        return
    attempts = item.pop("attempts")
    for name, value in item.items():
        if value is not None:
            output.text(f"{name:12} {value}")
    columns = ("number", "time", "outcome", "code", "duration", "text")
    output.rows(fmt, columns, attempts, empty="It was not tried yet.")
    output.text(found[0].text)


def unknown(
    limit: Annotated[int, typer.Option(help="At most N mails.", min=1, max=100_000)] = 50,
    fmt: OutputOption = "table",
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show the mails that may or may not have arrived, and how to settle them.

    Example: custsvc notify unknown -o json
    """
    output.checked(fmt)
    if Asked("unknown").print(limit, fmt, backend, data_dir) and fmt == "table":
        say("If it arrived: custsvc notify discard ID. If not, or if twice is fine: custsvc notify retry ID.")
