"""Notifications: the role that sends them, and what people look up, send again, give up or try out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ExitCode
from . import output
from .common import (
    BackendOption,
    DataDirOption,
    LogFormatOption,
    LogLevelOption,
    OutputOption,
    go_ahead,
    say,
    settings_for,
    watch_parent,
)

if TYPE_CHECKING:
    from ..ports.ledger import Ledger, Notification
    from ..ports.store import Store

_COLUMNS = ("id", "state", "customer_id", "version", "rule", "recipient", "tries", "created_on", "reason")
_AT_ONCE = 500

MaxAgeOption = Annotated[
    float | None,
    typer.Option(
        "--max-age",
        help="Events older than this are never mailed.  [env: CUSTSVC_NOTIFY_MAX_AGE; default: 86400]",
        metavar="SECONDS",
    ),
]
OnUnknownOption = Annotated[
    str | None,
    typer.Option(
        "--on-unknown",
        help="A mail that may have arrived: hold it for a person, or resend it under the same Message-ID.  "
        "[env: CUSTSVC_NOTIFY_ON_UNKNOWN; default: hold]",
        metavar="hold|resend",
    ),
]
RulesOption = Annotated[
    str | None,
    typer.Option(
        "--rules",
        help="TOML file of rules; the built-in ones without.  [env: CUSTSVC_NOTIFY_RULES]",
        metavar="FILE",
    ),
]
IdsArgument = Annotated[list[str] | None, typer.Argument(help="Notifications' ids.", metavar="[ID]...")]
StateOption = Annotated[str | None, typer.Option(help="Only those in this state.", metavar="STATE")]
CustomerOption = Annotated[int | None, typer.Option(help="Only those about this customer.", metavar="ID")]
ToOption = Annotated[str | None, typer.Option("--to", help="Only those to this address.", metavar="ADDRESS")]
RuleOption = Annotated[str | None, typer.Option(help="Only those of this rule.", metavar="NAME")]
SinceOption = Annotated[
    str | None, typer.Option(help="Only those made since: 2h, 3d, or a time as 2026-11-23.", metavar="TIME")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say which they are.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def notify(
    context: typer.Context,
    backend: BackendOption = None,
    rules: RulesOption = None,
    max_age: MaxAgeOption = None,
    on_unknown: OnUnknownOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
) -> None:
    """Tell customers about their changes, and send the mails that other services ask for.

    Without a command this is the role itself. --backend is the database of the ledger. Start as many as you
    like: they share the work.

    Example: custsvc notify --backend mongo
    """
    if context.invoked_subcommand is not None:
        return
    settings = settings_for(
        "notify",
        ("backend", "kafka", "mail"),
        backend=backend,
        notify_rules=rules,
        notify_max_age=max_age,
        notify_on_unknown=on_unknown,
        data_dir=data_dir,
        log_level=log_level,
        log_format=log_format,
    )
    from ..notify.run import run_notify
    from ..runtime.gc import spare_batches
    from ..runtime.loop import Stop

    watch_parent()
    spare_batches()
    with Stop().on_signals() as stop:
        run_notify(settings, stop)


# -- looking up --------------------------------------------------------------------------------------------


@app.command("list")
def list_notifications(
    state: StateOption = None,
    customer: CustomerOption = None,
    to: ToOption = None,
    rule: RuleOption = None,
    event: Annotated[str | None, typer.Option(help="Only those of this event.", metavar="ID")] = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=100_000)] = 50,
    fmt: OutputOption = "table",
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show notifications, the newest first.

    States: queued, claimed, handing_over, sent, deferred, failed, unknown, suppressed, discarded.

    Example: custsvc notify list --state failed --since 2h
    """
    from ..notify.sending import view

    output.checked(fmt)
    with _ledger(backend, data_dir) as ledger:
        found = ledger.recent(
            state=_state(state),
            customer_id=customer,
            recipient=to,
            rule=rule,
            event_id=event,
            since=_since(since),
            limit=limit,
        )
    columns = _COLUMNS if fmt == "table" else tuple(view.row(found[0])) if found else _COLUMNS
    output.rows(fmt, columns, [view.row(each) for each in found])


@app.command()
def show(
    id: Annotated[str, typer.Argument(help="The notification's id.")],
    fmt: OutputOption = "table",
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show one notification: what it says, and how each attempt ended.

    Example: custsvc notify show 3fd0bc4f1c0a4c0f9a54d6b1d7f1a9e2 -o json
    """
    from ..errors import NotFound
    from ..notify.sending import view

    output.checked(fmt)
    with _ledger(backend, data_dir) as ledger:
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


@app.command()
def unknown(
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=100_000)] = 50,
    fmt: OutputOption = "table",
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show the mails of which nobody knows whether they arrived, and how to settle them.

    Example: custsvc notify unknown -o json
    """
    list_notifications(state="unknown", limit=limit, fmt=fmt, backend=backend, data_dir=data_dir)
    if fmt == "table":
        say(
            "It arrived: custsvc notify discard ID. It did not, or twice is no harm: custsvc notify retry ID."
        )


# -- again, and no more ------------------------------------------------------------------------------------


@app.command()
def retry(
    ids: IdsArgument = None,
    state: StateOption = None,
    rule: RuleOption = None,
    since: SinceOption = None,
    out_of_order: Annotated[
        bool, typer.Option("--out-of-order", help="Also where a newer mail of the customer went out since.")
    ] = False,
    redeliver: Annotated[
        bool, typer.Option("--redeliver", help="Also webhooks that were delivered.")
    ] = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Send notifications again: these ids, or all of a state (failed, unknown, suppressed, discarded).

    Exits 8 where some could not be queued.

    Example: custsvc notify retry --state failed --since 2h --dry-run
    """
    with _ledger(backend, data_dir) as ledger:
        chosen = _chosen(ledger, ids, state, rule, since)
        if not _go_ahead("retry", chosen, dry_run=dry_run, yes=yes or bool(ids)):
            return
        queued = _in_parts(
            chosen, lambda part: ledger.retry(part, out_of_order=out_of_order, redeliver=redeliver)
        )
        passed = [n for n in ledger.find([n.id for n in chosen]) if n.id not in queued]
    for each in passed:
        say(f"{each.id}: not queued, it is {each.state}{_why_not(each)}")
    _done("queued again", len(queued), len(chosen))


@app.command()
def discard(
    ids: IdsArgument = None,
    state: StateOption = None,
    rule: RuleOption = None,
    since: SinceOption = None,
    reason: Annotated[str, typer.Option(help="Why; it is kept.")] = "discarded by hand",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Give notifications up for good: these ids, or all of a state (queued, deferred, failed, unknown).

    Exits 8 where some could not be discarded.

    Example: custsvc notify discard --state unknown --reason "asked them, it arrived"
    """
    with _ledger(backend, data_dir) as ledger:
        chosen = _chosen(ledger, ids, state, rule, since)
        if not _go_ahead("discard", chosen, dry_run=dry_run, yes=yes or bool(ids)):
            return
        gone = _in_parts(chosen, lambda part: ledger.discard(part, reason))
    _done("discarded", len(gone), len(chosen))


def _chosen(
    ledger: Ledger, ids: list[str] | None, state: str | None, rule: str | None, since: str | None
) -> list[Notification]:
    from ..errors import NotFound

    if bool(ids) == bool(state):
        raise typer.BadParameter("give ids, or --state and what else narrows it")
    if not ids:
        return ledger.recent(state=_state(state), rule=rule, since=_since(since), limit=1_000_000)
    found = ledger.find(ids)
    if missing := set(ids) - {each.id for each in found}:
        raise NotFound(
            f"there is no notification {', '.join(sorted(missing))}", fix="see custsvc notify list"
        )
    return found


def _in_parts(chosen: Sequence[Notification], act: Any) -> set[str]:
    done: set[str] = set()
    # The oldest first: a mail that goes out again must not overtake an older one.
    ids = [each.id for each in reversed(chosen)]
    for start in range(0, len(ids), _AT_ONCE):
        done.update(act(ids[start : start + _AT_ONCE]))
    return done


def _go_ahead(verb: str, chosen: Sequence[Notification], *, dry_run: bool, yes: bool) -> bool:
    lines = [f"{each.id}  {each.state}  {each.rule}  {each.recipient}" for each in chosen]
    return go_ahead(verb, "notifications", lines, dry_run=dry_run, yes=yes)


def _why_not(each: Notification) -> str:
    if each.state in ("failed", "unknown", "suppressed", "discarded"):
        return ", and a newer mail of the customer went out since (--out-of-order sends it all the same)"
    return ""


def _done(what: str, count: int, asked: int) -> None:
    say(f"{count} of {asked} {what}.")
    if count < asked:
        raise typer.Exit(ExitCode.PARTLY_DONE)


# -- trying out --------------------------------------------------------------------------------------------


@app.command()
def preview(
    event: Annotated[
        str | None, typer.Argument(help="An event's id, or CUSTOMER or CUSTOMER.VERSION.")
    ] = None,
    sample: Annotated[
        str | None, typer.Option("--sample", help="An event made up: created, updated …", metavar="OP")
    ] = None,
    rules: RulesOption = None,
    html: Annotated[bool, typer.Option("--html", help="Show the HTML instead of the text.")] = False,
    fmt: OutputOption = "table",
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show what an event would send, and send nothing.

    Example: custsvc notify preview --sample updated --rules notify.toml
    """
    from ..notify.preview import previews

    output.checked(fmt)
    if (event is None) == (sample is None):
        raise typer.BadParameter("give an event, or --sample OP")
    needs: tuple[Any, ...] = () if sample else ("backend",)
    settings = settings_for("notify", needs, backend=backend, notify_rules=rules, data_dir=data_dir)
    found = previews(settings, event, sample)
    if fmt != "table":
        output.rows(fmt, ("rule", "channel", "recipient", "subject", "text", "html"), found)
        return
    for each in found:
        output.text(f"Rule: {each['rule']}\nTo: {each['recipient']}\nSubject: {each['subject']}\n")
        output.text((each["html"] or "") if html else each["text"])
    if not found:
        say("No rule sends anything for it.")


@app.command()
def test(
    to: Annotated[str, typer.Argument(help="The address to send to.")],
    rule: Annotated[str, typer.Option(help="The rule whose mail is sent.")] = "welcome",
    rules: RulesOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Send one mail of a rule, made up, to an address, and say what the mail server answered.

    It takes the way of all mails, but leaves nothing in the ledger. Exits 7 where it was not taken.

    Example: custsvc notify test you@example.com
    """
    from ..notify.preview import send_sample

    settings = settings_for("notify", ("mail",), notify_rules=rules, data_dir=data_dir)
    outcome = send_sample(settings, to, rule)
    code = "" if outcome.code is None else f"{outcome.code} "
    output.text(f"{outcome.result}: {code}{outcome.text}")
    if outcome.result != "sent":
        raise typer.Exit(ExitCode.CHECK_FAILED)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where to; it is made.", file_okay=False)],
) -> None:
    """Copy the built-in rules and templates to a folder, to be changed there. Overwrites nothing.

    Example: custsvc notify init notify && export CUSTSVC_NOTIFY_RULES=notify/notify.toml
    """
    from ..notify.preview import copy_defaults

    for path in copy_defaults(folder):
        say(f"wrote {path}")
    typer.echo(f"export CUSTSVC_NOTIFY_RULES={folder / 'notify.toml'}")


# -- who gets none -----------------------------------------------------------------------------------------

suppressions = typer.Typer(
    help="Addresses that get no mail, and why.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(suppressions, name="suppressions")


@suppressions.command("list")
def list_suppressions(
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 1000,
    fmt: OutputOption = "table",
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show the addresses that get no mail now, the newest first.

    Example: custsvc notify suppressions list -o csv
    """
    from ..domain.customers import format_time

    output.checked(fmt)
    with _store(backend, data_dir) as store:
        found = store.recipients.suppressions(limit)
    rows = [
        {
            "address": each.address,
            "reason": each.reason,
            "detail": each.detail,
            "created_on": each.created_on and format_time(each.created_on),
            "expires_on": each.expires_on and format_time(each.expires_on),
        }
        for each in found
    ]
    output.rows(fmt, ("address", "reason", "created_on", "expires_on", "detail"), rows)


@suppressions.command("add")
def add_suppressions(
    addresses: Annotated[list[str], typer.Argument(help="Addresses.")],
    reason: Annotated[
        str, typer.Option(help="Why.", metavar="manual|bounce|complaint|unsubscribe")
    ] = "manual",
    detail: Annotated[str | None, typer.Option(help="What else is known; it is kept.")] = None,
    days: Annotated[
        float | None, typer.Option(help="For how many days; for good without.", min=0.001)
    ] = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Send nothing to these addresses any more.

    Example: custsvc notify suppressions add ada@example.com --reason complaint --days 90
    """
    from ..notify.sending.gate import address_key

    if reason not in ("manual", "bounce", "complaint", "unsubscribe"):
        raise typer.BadParameter(f"{reason!r} is no reason", param_hint="--reason")
    seconds = None if days is None else days * 86400
    with _store(backend, data_dir) as store:
        for address in _checked_addresses(addresses):
            store.recipients.suppress(address_key(address), reason, detail=detail, seconds=seconds)
            say(f"{address} gets no mail" + ("." if days is None else f" for {days:g} days."))


@suppressions.command("remove")
def remove_suppressions(
    addresses: Annotated[list[str], typer.Argument(help="Addresses.")],
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Send to these addresses again. Exits 5 where one was not suppressed.

    Example: custsvc notify suppressions remove ada@example.com
    """
    from ..errors import NotFound
    from ..notify.sending.gate import address_key

    with _store(backend, data_dir) as store:
        missing = [each for each in addresses if not store.recipients.allow(address_key(each))]
    if missing:
        raise NotFound(f"{', '.join(missing)} was not suppressed", fix="see custsvc notify suppressions list")


@suppressions.command("bounced")
def add_bounced(
    report: Annotated[typer.FileBinaryRead, typer.Argument(help="A delivery report; - is stdin.")] = "-",  # type: ignore[assignment]
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Suppress the recipients that a mail server's delivery report (RFC 3464) says do not exist.

    Let the mail server pipe what comes to the sender's address into it.

    Example: custsvc notify suppressions bounced < report.eml
    """
    from ..notify.channels import bounce
    from ..notify.sending.gate import address_key

    found = bounce.read(report.read())
    settings = settings_for("notify", ("backend",), backend=backend, data_dir=data_dir)
    from ..stores import open_store

    with open_store(settings) as store:
        store.migrate()
        for each in found:
            if each.is_final:
                seconds = settings.notify_bounce_days * 86400
                key = address_key(each.address)
                store.recipients.suppress(key, "bounce", detail=each.reason, seconds=seconds)
            say(f"{each.address}: {'suppressed' if each.is_final else 'left as it is'} ({each.reason})")
    if not found:
        say("This is no report of a mail that could not be delivered.")


# -- shared ------------------------------------------------------------------------------------------------


@contextmanager
def _store(backend: str | None, data_dir: Path | None) -> Iterator[Store]:
    from ..stores import open_store

    settings = settings_for("notify", ("backend",), backend=backend, data_dir=data_dir)
    with open_store(settings) as store:
        store.migrate()
        yield store


@contextmanager
def _ledger(backend: str | None, data_dir: Path | None) -> Iterator[Ledger]:
    with _store(backend, data_dir) as store:
        yield store.ledger


def _checked_addresses(addresses: list[str]) -> list[str]:
    from ..domain.address import BadAddress, one_address

    try:
        return [one_address(address).spec for address in addresses]
    except BadAddress as exc:
        raise typer.BadParameter(str(exc)) from exc


def _state(state: str | None) -> str | None:
    from ..ports.ledger import SETTLED, UNSETTLED

    if state is not None and state not in (*UNSETTLED, *SETTLED):
        raise typer.BadParameter(
            f"{state!r} is not one of {', '.join((*UNSETTLED, *SETTLED))}", param_hint="--state"
        )
    return state


def _since(text: str | None) -> dt.datetime | None:
    from ..kafka.tail import parse_time

    return None if text is None else parse_time(text)
