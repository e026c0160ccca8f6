"""`imports`: the imports of the last week, and undoing one."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import typer

from ..errors import ExitCode
from . import output
from .common import (
    BackendOption,
    DataDirOption,
    LogLevelOption,
    OutputOption,
    claim_source,
    say,
    settings_for,
)

app = typer.Typer(help="The imports of the last week, and undoing one.", no_args_is_help=True)


@app.command("list")
def list_(
    output_fmt: OutputOption = "table",
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """List the imports that can be undone, the newest first.

    Example: custsvc imports list
    """
    output.checked(output_fmt)
    settings = settings_for(
        "imports", ("backend",), start=False, backend=backend, data_dir=data_dir, log_level=log_level
    )
    from ..domain.customers import format_time
    from ..stores import open_store
    from ..transfer.imported import Imports

    with open_store(settings) as store:
        found = Imports(store.shelf).all()
    items = [
        {
            "id": each.id,
            "at": format_time(dt.datetime.fromtimestamp(each.at, dt.UTC)),
            "by": each.by,
            "what": each.what,
            "created": each.counts.get("create", 0),
            "changed": each.counts.get("update", 0),
            "restored": each.counts.get("restore", 0),
            "deleted": each.counts.get("delete", 0),
            "undone": each.undone is not None,
        }
        for each in found
    ]
    columns = ("id", "at", "by", "what", "created", "changed", "restored", "deleted", "undone")
    output.rows(output_fmt, columns, items, empty="no import in the last week; custsvc import FILE makes one")


@app.command()
def undo(
    import_id: Annotated[str, typer.Argument(help="The id of the import.", metavar="ID")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    output_fmt: OutputOption = "table",
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Undo an import: delete what it created, change back what it changed.

    Customers that were changed since are left alone and listed. Exits 8 if there are any.

    Example: custsvc imports undo 5f0c1a2b3c4d5e6f --dry-run
    """
    output.checked(output_fmt)
    settings = settings_for(
        "imports", ("backend",), start=False, backend=backend, data_dir=data_dir, log_level=log_level
    )
    from ..service.customers import Caller
    from ..stores import open_store
    from ..transfer.imported import Imports
    from ..transfer.undo import undo as undo_import

    with open_store(settings) as store:
        claim_source(settings, store)
        imports, caller = Imports(store.shelf), Caller("import")
        report = undo_import(store.customers, store.answers, imports, import_id, caller, dry_run=dry_run)
    if output_fmt == "json":
        output.one("json", report.as_dict())
    elif report.left or output_fmt != "table":
        output.rows(output_fmt, ("id", "version"), report.left)
    counts = report.counts
    did = (
        f"{counts['delete']:,} deleted, {counts['revert']:,} changed back, {counts['trash']:,} deleted again"
    )
    did += f", {counts['restore']:,} restored" if counts["restore"] else ""
    say(f"{'would be: ' if dry_run else ''}{did}")
    if counts["left"]:
        say(f"{counts['left']:,} customers were changed since the import and are left alone")
        raise typer.Exit(ExitCode.PARTLY_DONE)
