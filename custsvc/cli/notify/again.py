"""`notify retry`, `discard` and `restored`: send notifications again, give them up, or hold them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import ExitCode
from ..common import BackendOption, DataDirOption, confirmed, report, say, time_of
from .common import RuleOption, SinceOption, StateOption, checked_state, opened_ledger

if TYPE_CHECKING:
    from ...ports.ledger import MailRecords, Notification

_AT_ONCE = 500
_RESTORED = "the ledger was restored from a backup: whether it was sent since is not known"

IdsArgument = Annotated[list[str] | None, typer.Argument(help="Notifications' ids.", metavar="[ID]...")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only list the notifications.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def retry(
    ids: IdsArgument = None,
    state: StateOption = None,
    rule: RuleOption = None,
    since: SinceOption = None,
    out_of_order: Annotated[
        bool, typer.Option("--out-of-order", help="Also if a newer mail of the customer was sent since.")
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

    Exits 8 if some could not be queued.

    Example: custsvc notify retry --state failed --since 2h --dry-run
    """
    choice = _checked_choice(ids, state, since)
    with opened_ledger(backend, data_dir) as ledger:
        chosen = _chosen(ledger, ids, state, rule, choice)
        if not _confirmed("retry", chosen, dry_run=dry_run, yes=yes or bool(ids)):
            return
        queued = _in_parts(
            chosen, lambda part: ledger.retry(part, out_of_order=out_of_order, redeliver=redeliver)
        )
        passed = [n for n in ledger.find([n.id for n in chosen]) if n.id not in queued]
    for each in passed:
        say(f"{each.id}: not queued, it is {each.state}{_why_not(each)}")
    _done("queued again", len(queued), len(chosen))


def discard(
    ids: IdsArgument = None,
    state: StateOption = None,
    rule: RuleOption = None,
    since: SinceOption = None,
    reason: Annotated[str, typer.Option(help="The reason, stored with them.")] = "discarded by hand",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Give notifications up for good: these ids, or all of a state (queued, deferred, failed, unknown).

    Exits 8 if some could not be discarded.

    Example: custsvc notify discard --state unknown --reason "asked them, it arrived"
    """
    choice = _checked_choice(ids, state, since)
    with opened_ledger(backend, data_dir) as ledger:
        chosen = _chosen(ledger, ids, state, rule, choice)
        if not _confirmed("discard", chosen, dry_run=dry_run, yes=yes or bool(ids)):
            return
        gone = _in_parts(chosen, lambda part: ledger.discard(part, reason))
    _done("discarded", len(gone), len(chosen))


def restored(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count them.")] = False,
    yes: YesOption = False,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """After a restore of the ledger's database: hold the mails that had not been sent at the backup.

    They may have been sent since, so they become unknown. Run it before notify starts, then look at them with
    `custsvc notify unknown`. What goes to webhook endpoints is delivered, as it may come twice anyway.

    Example: custsvc notify restored --dry-run
    """
    from ...ports.ledger import UNSETTLED

    with opened_ledger(backend, data_dir) as ledger:
        # Those of webhook endpoints are counted too: this is only the question.
        lines = [f"{count} {state}" for state, count in ledger.counts(UNSETTLED).items()]
        if not confirmed("hold", "kinds of notifications", lines, dry_run=dry_run, yes=yes):
            return
        held = 0
        while some := ledger.doubt(_RESTORED, _AT_ONCE):
            held += some
    report(f"{held} held as unknown; see custsvc notify unknown.", held=held)


def _checked_choice(ids: list[str] | None, state: str | None, since: str | None) -> dt.datetime | None:
    """The time that --since means, once it is clear what was chosen."""
    if bool(ids) == bool(state):
        raise typer.BadParameter("give ids or --state; --rule and --since narrow --state", param_hint="ID")
    checked_state(state)
    return time_of(since)


def _chosen(
    ledger: MailRecords,
    ids: list[str] | None,
    state: str | None,
    rule: str | None,
    since: dt.datetime | None,
) -> list[Notification]:
    from ...errors import NotFound

    if not ids:
        return ledger.recent(state=state, rule=rule, since=since, limit=1_000_000)
    found = ledger.find(ids)
    if missing := set(ids) - {each.id for each in found}:
        raise NotFound(
            f"there is no notification {', '.join(sorted(missing))}", fix="see custsvc notify list"
        )
    return found


def _in_parts(chosen: Sequence[Notification], act: Callable[[list[str]], Iterable[str]]) -> set[str]:
    done: set[str] = set()
    # The oldest first, so that no mail overtakes an older one.
    ids = [each.id for each in reversed(chosen)]
    for start in range(0, len(ids), _AT_ONCE):
        done.update(act(ids[start : start + _AT_ONCE]))
    return done


def _confirmed(verb: str, chosen: Sequence[Notification], *, dry_run: bool, yes: bool) -> bool:
    lines = [f"{each.id}  {each.state}  {each.rule}  {each.recipient}" for each in chosen]
    return confirmed(verb, "notifications", lines, dry_run=dry_run, yes=yes)


def _why_not(each: Notification) -> str:
    if each.state in ("failed", "unknown", "suppressed", "discarded"):
        return ", and a newer mail of the customer was sent since (--out-of-order sends it anyway)"
    return ""


def _done(what: str, count: int, asked: int) -> None:
    report(f"{count} of {asked} {what}.", asked=asked, **{what.replace(" ", "_"): count})
    if count < asked:
        raise typer.Exit(ExitCode.PARTLY_DONE)
