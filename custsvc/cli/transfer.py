"""`export`: customers in bulk to a file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ..errors import ValidationError
from . import output
from .common import BackendOption, DataDirOption, LogLevelOption, settings_for
from .files import FileArgument, check_place, opened

if TYPE_CHECKING:
    from ..transfer.sheet import Dialect

FormatOption = Annotated[
    str | None,
    typer.Option("--format", help="csv, ndjson, json or vcard; default: by the file's name.", metavar="NAME"),
]
_SUFFIXES = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "json", ".vcf": "vcard"}


def export_(
    file: FileArgument,
    fmt: FormatOption = None,
    q: Annotated[
        str | None, typer.Option("--q", help="Only customers with these words.", metavar="WORDS")
    ] = None,
    deleted: Annotated[
        str, typer.Option("--deleted", help="exclude, include or only.", metavar="WHICH")
    ] = "exclude",
    fields: Annotated[
        str | None,
        typer.Option(
            "--fields",
            help="Columns of CSV in order: name,email,metadata.city; default: all.",
            metavar="NAMES",
        ),
    ] = None,
    excel: Annotated[bool, typer.Option("--excel", help="CSV for Excel: with a byte order mark.")] = False,
    delimiter: Annotated[
        str,
        typer.Option("--delimiter", help="The sign between the cells of CSV, or tab.", metavar="SIGN"),
    ] = ",",
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Write customers to a file: CSV, NDJSON, JSON or vCards, of any size.

    Example: custsvc export customers.csv

    Example: custsvc export excel.csv --excel --delimiter ';' --fields id,name,email,metadata.city
    """
    chosen = _format(file, fmt, ("csv", "ndjson", "json", "vcard"))
    if deleted not in ("exclude", "include", "only"):
        raise typer.BadParameter("must be exclude, include or only", param_hint="--deleted")
    if q is not None and not q.strip():
        raise typer.BadParameter("is empty; leave it out to export all customers", param_hint="--q")
    check_place(file)
    columns, dialect = _sheet(chosen, fields, delimiter, mark=excel)
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
        # On a terminal a bar would stand among the customers.
        about = partial(store.customers.count, where, exact=False)
        with bar("exporting", about, hidden=file == "-") as progress:
            parts = export(
                store.customers,
                cast(Format, chosen),
                where,
                fields=columns,
                dialect=dialect,
                progress=progress,
            )
            for part in parts:
                out.write(output.for_terminal(part, chosen) if file == "-" else part)
        out.flush()


def _sheet(fmt: str, fields: str | None, delimiter: str, *, mark: bool) -> tuple[list[str] | None, Dialect]:
    """The columns and dialect of CSV. Raises a usage error."""
    from ..transfer.row import METADATA
    from ..transfer.shape import Asked
    from ..transfer.sheet import COLUMNS, Dialect

    try:
        sign = Asked.of(delimiter=delimiter).delimiter or ","
    except ValidationError as exc:
        raise typer.BadParameter(exc.errors[0].message, param_hint="--delimiter") from exc
    names = [name.strip() for name in fields.split(",")] if fields is not None else None
    if names is not None and fmt != "csv":
        raise typer.BadParameter("is for CSV", param_hint="--fields")
    for name in names or ():
        if name not in COLUMNS and not (name.startswith(METADATA) and len(name) > len(METADATA)):
            known = f"{', '.join(COLUMNS)} or metadata.KEY"
            raise typer.BadParameter(f"{name!r} is not {known}", param_hint="--fields")
    return names, Dialect(sign, mark)


def _format(file: str, given: str | None, allowed: tuple[str, ...]) -> str:
    found = given or _SUFFIXES.get(Path(file).suffix.lower(), "ndjson" if file == "-" else "")
    if found not in allowed:
        raise typer.BadParameter(f"must be {', '.join(allowed[:-1])} or {allowed[-1]}", param_hint="--format")
    return found
