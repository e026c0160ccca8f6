"""`failed`: list, retry and discard the dead letters of copies and the failed mails of notify."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ExitCode
from . import output
from .common import (
    BackendOption,
    DataDirOption,
    OutputOption,
    confirmed,
    report,
    say,
    settings_for,
    time_of,
)
from .notify import again, lists

if TYPE_CHECKING:
    from ..config import Settings
    from ..copies.dead_letters import DeadLetter, Outcome

StageOption = Annotated[
    str,
    typer.Option(
        "--stage",
        help="replicate: dead letters. notify: failed mails.",
        metavar="replicate|notify",
    ),
]
IdsArgument = Annotated[list[str] | None, typer.Argument(help="Entries by id.", metavar="ID")]
AllOption = Annotated[bool, typer.Option("--all", help="All open entries.")]
ClassOption = Annotated[
    str | None, typer.Option("--class", help="Only entries with this class of reason.", metavar="WORD")
]
SinceOption = Annotated[
    str | None, typer.Option("--since", help="Only entries since: 2h, 3d, or a time.", metavar="TIME")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only list the entries.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

# How the id of a record begins; that of a mail does not.
_RECORD = "dead-"
# How many mails a list shows; `notify list` shows more.
_SHOWN = 50
_COLUMNS = ("id", "state", "class", "reason", "topic", "partition", "offset", "key", "bytes", "time")

app = typer.Typer(
    help="Dead letters and failed mails: list them, send them again, or discard them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_failed(
    stage: StageOption = "replicate",
    reason_class: ClassOption = None,
    since: SinceOption = None,
    settled: Annotated[
        bool, typer.Option("--settled", help="Also entries that were sent again or discarded.")
    ] = False,
    fmt: OutputOption = "table",
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """List dead letters or failed mails.

    Example: custsvc failed list --stage replicate -o ndjson
    """
    output.checked(fmt)
    if _checked(stage) == "notify":
        asked = lists.Asked("failed", since=time_of(since))
        asked.print(_SHOWN, fmt, backend, data_dir)
        return
    oldest = time_of(since)
    from ..copies.dead_letters import as_row

    letters = _select(_settings(data_dir, backend=backend), None, reason_class, oldest, settled=settled)
    nothing = "No record failed. Mails that did: custsvc failed list --stage notify"
    output.rows(fmt, _COLUMNS, map(as_row, letters), empty=nothing)


@app.command()
def show(
    id: Annotated[str, typer.Argument(help="The entry's id.")],
    fmt: OutputOption = "table",
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show all that is known about one entry.

    Example: custsvc failed show dead-3fd0bc4f1c0a
    """
    output.checked(fmt)
    if not id.startswith(_RECORD):
        with _either():
            lists.show(id, fmt=fmt, backend=backend, data_dir=data_dir)
        return
    (letter,) = _select(_settings(data_dir, backend=backend), [id], None, None, settled=True)
    row = _whole(letter)
    if fmt != "table":
        output.rows(fmt, tuple(row), [row])
        return
    for name, value in row.items():
        if not name.endswith("base64"):
            output.text(f"{name:10} {value}")
    output.text((letter.value or b"").decode("utf-8", "replace"))


@app.command()
def export(
    stage: StageOption = "replicate",
    reason_class: ClassOption = None,
    since: SinceOption = None,
    settled: Annotated[
        bool, typer.Option("--settled", help="Also entries that were sent again or discarded.")
    ] = False,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Write the entries as NDJSON, with the records' bytes in base64.

    Example: custsvc failed export --stage replicate > dead.ndjson
    """
    if _checked(stage) == "notify":
        lists.Asked("failed", since=time_of(since)).print(1_000_000, "ndjson", backend, data_dir)
        return
    oldest = time_of(since)
    letters = _select(_settings(data_dir, backend=backend), None, reason_class, oldest, settled=settled)
    output.rows("ndjson", (), map(_whole, letters))


@app.command()
def retry(
    ids: IdsArgument = None,
    everything: AllOption = False,
    stage: StageOption = "replicate",
    reason_class: ClassOption = None,
    since: SinceOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Send entries again: these ids, or all open ones.

    A record goes to the topic and partition that it came from, with its own key, bytes and headers. If the
    event can be read now, its customer is sent after it as it is today; --backend is the source.

    Exits 8 if some could not be sent: their topic is gone or closed to this account, or they are settled.

    Example: custsvc failed retry --all --class bad-json --dry-run
    """
    if _is_notify(stage, ids):
        state = None if ids else "failed"
        with _either():
            again.retry(
                ids, state=state, since=since, dry_run=dry_run, yes=yes, backend=backend, data_dir=data_dir
            )
        return
    oldest = _checked_choice(ids, everything, reason_class, since)
    settings = _settings(data_dir)
    letters = _select(settings, ids, reason_class, oldest)
    if not _confirmed("send", letters, dry_run=dry_run, yes=yes or bool(ids)):
        return
    from ..copies.dead_letters import DeadLetterBox, customers_of

    if customers_of(letters):
        settings = _settings(data_dir, "backend", backend=backend)
    with DeadLetterBox(settings) as box:
        outcome = box.retry(letters)
    if customers := outcome.customers:
        _resend(settings, customers)
    sent, there = len(outcome.done), len(outcome.there)
    report(
        f"{sent} of {len(letters)} sent again; {there} were on the topic already",
        sent=sent,
        there_already=there,
        customers_resent=len(customers),
        not_sent=_ids_left(outcome),
    )
    _end(outcome)


@app.command()
def discard(
    ids: IdsArgument = None,
    everything: AllOption = False,
    stage: StageOption = "replicate",
    reason_class: ClassOption = None,
    since: SinceOption = None,
    reason: Annotated[str, typer.Option(help="The reason, stored with the entry.")] = "discarded by hand",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Discard entries: these ids, or all open ones.

    Exits 8 if some were settled already.

    Example: custsvc failed discard dead-3fd0bc4f1c0a --reason "a test of ours"
    """
    if _is_notify(stage, ids):
        with _either():
            again.discard(
                ids,
                state=None if ids else "failed",
                since=since,
                reason=reason,
                dry_run=dry_run,
                yes=yes,
                backend=backend,
                data_dir=data_dir,
            )
        return
    oldest = _checked_choice(ids, everything, reason_class, since)
    settings = _settings(data_dir)
    letters = _select(settings, ids, reason_class, oldest)
    if not _confirmed("discard", letters, dry_run=dry_run, yes=yes or bool(ids)):
        return
    from ..copies.dead_letters import DeadLetterBox

    with DeadLetterBox(settings) as box:
        outcome = box.discard(letters, reason)
    count = len(outcome.done)
    report(f"{count} discarded", discarded=count, not_discarded=_ids_left(outcome))
    _end(outcome)


def _ids_left(outcome: Outcome) -> list[str]:
    return [letter.id for left in outcome.left for letter in left.letters]


def _end(outcome: Outcome) -> None:
    """Say which entries were left, and why."""
    if outcome.left:
        say(outcome.why_left)
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _checked(stage: str) -> str:
    if stage not in ("replicate", "notify"):
        raise typer.BadParameter(f"{stage!r} is neither replicate nor notify", param_hint="--stage")
    return stage


def _is_notify(stage: str, ids: Sequence[str] | None) -> bool:
    """Whether the entries are failed mails; an id shows this by its prefix."""
    if not ids:
        return _checked(stage) == "notify"
    records = [each.startswith(_RECORD) for each in ids]
    if any(records) and not all(records):
        raise typer.BadParameter("name records (dead-…) or mails, one kind at a time", param_hint="ID")
    return not any(records)


@contextmanager
def _either() -> Iterator[None]:
    """Say of an id that is not in the ledger where all ids are: it may be a wrong one of a record."""
    from ..errors import NotFound

    try:
        yield
    except NotFound as exc:
        raise NotFound(
            f"{exc}, and records have ids that begin with {_RECORD}",
            fix="custsvc failed list shows records, custsvc failed list --stage notify mails",
        ) from exc


def _checked_choice(
    ids: Sequence[str] | None, everything: bool, reason_class: str | None, since: str | None
) -> dt.datetime | None:
    """The time that --since means, once it is clear that something was chosen."""
    if not ids and not (everything or reason_class or since is not None):
        raise typer.BadParameter("give ids, --all, --class or --since", param_hint="ID")
    return time_of(since)


def _settings(data_dir: Any, *needs: Any, **flags: Any) -> Settings:
    return settings_for("failed", ("kafka", *needs), start=False, data_dir=data_dir, **flags)


def _select(
    settings: Settings,
    ids: Sequence[str] | None,
    reason_class: str | None,
    oldest: dt.datetime | None,
    *,
    settled: bool = False,
) -> list[DeadLetter]:
    from ..copies.dead_letters import OPEN, DeadLetterBox

    with DeadLetterBox(settings) as box:
        found = box.find(ids) if ids else box.all()
    return [
        letter
        for letter in found
        if (ids or settled or letter.state in OPEN)
        and reason_class in (None, letter.reason_class)
        and (oldest is None or letter.time >= oldest)
    ]


def _confirmed(verb: str, letters: Sequence[DeadLetter], *, dry_run: bool, yes: bool) -> bool:
    lines = [f"{letter.id}  {letter.reason_class}  {letter.place}" for letter in letters]
    return confirmed(verb, "records", lines, dry_run=dry_run, yes=yes)


def _resend(settings: Settings, customers: Sequence[int]) -> None:
    from ..copies.pipeline import resending
    from ..stores import open_store

    with open_store(settings) as source, resending(settings, source) as resend:
        resend(customers)
    say(f"{len(customers)} customers sent as they are now, after their old events")


def _whole(letter: DeadLetter) -> dict[str, Any]:
    from base64 import b64encode

    from ..copies.dead_letters import as_row

    def text(data: str | bytes | None) -> str | None:
        raw = data.encode() if isinstance(data, str) else data
        return None if raw is None else b64encode(raw).decode()

    headers = [[name, text(value)] for name, value in letter.headers]
    return {
        **as_row(letter),
        "key_base64": text(letter.key),
        "value_base64": text(letter.value),
        "headers_base64": headers,
    }
