"""`export`: customers in bulk to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from . import output
from .common import BackendOption, DataDirOption, LogLevelOption, settings_for
from .files import FileArgument, check_place, opened

FormatOption = Annotated[
    str | None,
    typer.Option("--format", help="csv, ndjson or json; default: by the file's name.", metavar="NAME"),
]
_SUFFIXES = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "json"}


def export_(
    file: FileArgument,
    fmt: FormatOption = None,
    q: Annotated[
        str | None, typer.Option("--q", help="Only customers with these words.", metavar="WORDS")
    ] = None,
    deleted: Annotated[
        str, typer.Option("--deleted", help="exclude, include or only.", metavar="WHICH")
    ] = "exclude",
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Write customers to a file: CSV, NDJSON or JSON, of any size.

    Example: custsvc export customers.csv
    """
    chosen = _format(file, fmt, ("csv", "ndjson", "json"))
    if deleted not in ("exclude", "include", "only"):
        raise typer.BadParameter("must be exclude, include or only", param_hint="--deleted")
    if q is not None and not q.strip():
        raise typer.BadParameter("is empty; leave it out to export all customers", param_hint="--q")
    check_place(file)
    settings = settings_for(
        "export", ("backend",), start=False, backend=backend, data_dir=data_dir, log_level=log_level
    )
    from ..domain.search import asked
    from ..ports.customers import CustomerFilter, Deleted
    from ..stores import open_store
    from ..transfer.export import Format, export
    from .progress import bar

    where = CustomerFilter(cast(Deleted, deleted))
    if q is not None:
        where = where.asking(asked(q))
    with open_store(settings) as store, opened(file, "wb") as out:
        # An incomplete file has another name, so that nobody takes it for the whole.
        with bar("exporting", store.customers.count(where)) as progress:
            for part in export(store.customers, cast(Format, chosen), where, progress=progress):
                out.write(output.for_terminal(part, chosen) if file == "-" else part)
        out.flush()


def _format(file: str, given: str | None, allowed: tuple[str, ...]) -> str:
    found = given or _SUFFIXES.get(Path(file).suffix.lower(), "ndjson" if file == "-" else "")
    if found not in allowed:
        raise typer.BadParameter(f"must be {', '.join(allowed[:-1])} or {allowed[-1]}", param_hint="--format")
    return found
