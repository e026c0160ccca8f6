"""`maintain` and `archive`: old history goes to files, and out of the database."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ..errors import Stopped
from .common import (
    ID_MAX,
    BackendOption,
    DataDirOption,
    LogFormatOption,
    LogLevelOption,
    claim_source,
    report,
    say,
    settings_for,
    working,
)

if TYPE_CHECKING:
    from ..ports.store import Store

# Events of a customer read at once.
_AT_ONCE: Final = 500

app = typer.Typer(help="Archive files of the history: check them, erase customers.", no_args_is_help=True)

FilesArgument = Annotated[
    list[Path],
    typer.Argument(
        help="Archive files (NAME.ndjson.gz).",
        metavar="FILE...",
        show_default=False,
        exists=True,
        dir_okay=False,
    ),
]


def maintain(
    keep: Annotated[
        str | None,
        typer.Option(
            help="How long replaced states stay, as 90d (8d at least).  [env: CUSTSVC_HISTORY_KEEP]",
            metavar="DAYS",
        ),
    ] = None,
    archive: Annotated[
        str | None,
        typer.Option(
            help="Folder for archive files; without it events are dropped without an archive.  "
            "[env: CUSTSVC_HISTORY_ARCHIVE]",
            metavar="DIR",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be dropped.")] = False,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
) -> None:
    """Drop old history, after archiving it to files, beside live traffic.

    An event goes when its state was replaced longer ago than --keep. What stays: the newest event
    of each customer, everything that is not on Kafka, and what undoing a merge needs. The relay that leads
    does the same once a day if CUSTSVC_HISTORY_KEEP is set. It may be killed and run again.

    Example: custsvc maintain --keep 90d --archive /srv/archive --dry-run
    """
    settings = settings_for(
        "maintain",
        ("backend",),
        backend=backend,
        history_keep=keep,
        history_archive=archive,
        data_dir=data_dir,
        log_level=log_level,
        log_format=log_format,
    )
    from ..retention.daily import trim_once
    from ..stores import open_store

    if settings.history_days is None:
        say("history is kept for ever; give --keep, or set CUSTSVC_HISTORY_KEEP")
        return
    with working() as stop, open_store(settings) as store:
        claim_source(settings, store)
        done = trim_once(settings, store, stop, dry_run=dry_run)
    if stop.asked():
        raise Stopped("stopped before all was done", fix="custsvc maintain again: it goes on from there")
    for each in done.files:
        say(f"archived {each.events:,} events, {each.first} to {each.last}: {each.path}")
    would = "would be " if dry_run else ""
    report(
        f"{done.outdated:,} events ({done.bytes:,} bytes) {would}dropped, {done.passed:,} looked at; "
        f"the history {'would begin' if dry_run else 'begins'} at {done.begins or 'its beginning'}",
        dry_run=dry_run,
        dropped=done.outdated,
        bytes=done.bytes,
        begins_at=done.begins or None,
        files=[str(each.path) for each in done.files],
    )


@app.command()
def verify(files: FilesArgument) -> None:
    """Check archive files: the checksum, and that each line is an event. Exits 7 at the first wrong one.

    Example: custsvc archive verify /srv/archive/*.ndjson.gz
    """
    from ..retention import archive

    for path in files:
        found = archive.verify(path)
        say(f"{path}: {found.events:,} events, {found.first} to {found.last}")
    report(f"{len(files):,} files are as they were written", files=len(files))


@app.command()
def erase(
    files: FilesArgument,
    customer: Annotated[
        list[int] | None,
        typer.Option(help="The customer to erase; may be given again.", metavar="ID", min=1, max=ID_MAX),
    ] = None,
    erased: Annotated[
        bool, typer.Option("--erased", help="All customers that are erased in the database.")
    ] = False,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Blank customers in archive files, as an erasure does in the database.

    A file with such events is written again, read again, and takes the place of the old one. Copies of the
    file elsewhere stay as they are.

    Example: custsvc archive erase /srv/archive/*.ndjson.gz --erased
    """
    if not customer and not erased:
        raise typer.BadParameter("name at least one, or give --erased", param_hint="--customer")
    from ..retention import archive

    ids = dict.fromkeys(customer or (), ID_MAX)
    if erased:
        settings = settings_for(
            "archive", ("backend",), start=False, backend=backend, data_dir=data_dir, log_level=log_level
        )
        from ..stores import open_store

        with open_store(settings) as store:
            ids = _erased(store, archive.customers_of(files)) | ids
    blanked = {path: archive.erase(path, ids) for path in files}
    for path, count in blanked.items():
        if count:
            say(f"{path}: {count:,} events are blank now")
    report(
        f"{sum(blanked.values()):,} events of {len(ids):,} customers blanked in {len(files):,} files",
        events=sum(blanked.values()),
        customers=len(ids),
    )


def _erased(store: Store, ids: Iterable[int]) -> dict[int, int]:
    """The version of the last erasure of each of these customers that was ever erased.

    An erased customer may be written to again; the data before the erasure stay erased.
    """
    import orjson

    found: dict[int, int] = {}
    for customer_id in sorted(ids):
        before: int | None = None
        while events := store.customers.history(customer_id, limit=_AT_ONCE, before_version=before):
            read = [orjson.loads(each) for each in events]
            last = next((each["version"] for each in read if each["op"] == "erased"), None)
            if last is not None:
                found[customer_id] = last
                break
            before = read[-1]["version"]
    return found
