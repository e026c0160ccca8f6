"""`notify list`, `show` and `unknown`: look notifications up."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import output
from ..common import BackendOption, DataDirOption, OutputOption, say
from .common import RuleOption, SinceOption, StateOption, checked_state, opened_ledger, time_of

_COLUMNS = ("id", "state", "customer_id", "version", "rule", "recipient", "tries", "created_on", "reason")

CustomerOption = Annotated[
    int | None, typer.Option(help="Only notifications about this customer.", metavar="ID")
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
    from ...notify.sending import view

    output.checked(fmt)
    with opened_ledger(backend, data_dir) as ledger:
        found = ledger.recent(
            state=checked_state(state),
            customer_id=customer,
            recipient=to,
            rule=rule,
            event_id=event,
            since=time_of(since),
            limit=limit,
        )
    columns = _COLUMNS if fmt == "table" else tuple(view.row(found[0])) if found else _COLUMNS
    output.rows(fmt, columns, [view.row(each) for each in found])


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
    from ...notify.sending import view

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
    output.rows(fmt, ("number", "time", "outcome", "code", "duration", "text"), attempts)
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
    list_notifications(state="unknown", limit=limit, fmt=fmt, backend=backend, data_dir=data_dir)
    if fmt == "table":
        say("If it arrived: custsvc notify discard ID. If not, or if twice is fine: custsvc notify retry ID.")
