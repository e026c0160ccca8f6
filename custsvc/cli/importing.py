"""`import`: customers in bulk from a file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, cast

import typer

from ..errors import BadArgument, ExitCode, ValidationError
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
from .files import FileArgument, opened
from .mails import MailsOption, decided

if TYPE_CHECKING:
    from ..transfer.headings import Columns
    from ..transfer.load import Options, Report
    from ..transfer.rows import Reading
    from ..transfer.shape import Asked

_OLD_WORKBOOK = ".xls"
_MAP_FILE_MAX = 1 << 20


def import_(
    file: FileArgument,
    fmt: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="csv, ndjson, json, xlsx or vcard; default: by the file's content.",
            metavar="NAME",
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            "--encoding",
            help="utf-8, windows-1252 …; default: by the file's content.",
            metavar="NAME",
        ),
    ] = None,
    delimiter: Annotated[
        str | None,
        typer.Option(
            "--delimiter",
            help="The sign between the cells of CSV, or tab; default: by the file's content.",
            metavar="SIGN",
        ),
    ] = None,
    sheet: Annotated[
        str | None,
        typer.Option("--sheet", help="The sheet of a workbook; default: the first one.", metavar="NAME"),
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="The field of a column, by its heading or place: 'Phone Number=phone', '#3=metadata.city'; "
            "'#4=' skips it. Repeatable.",
            metavar="COLUMN=FIELD",
        ),
    ] = None,
    map_file: Annotated[
        Path | None,
        typer.Option(
            "--map-file",
            help="A file of lines as for --map, or a JSON object of them.",
            exists=True,
            dir_okay=False,
            metavar="FILE",
        ),
    ] = None,
    others: Annotated[
        str,
        typer.Option(
            "--others",
            help="refuse, metadata or skip: what to do with unknown columns.",
            metavar="WHAT",
        ),
    ] = "refuse",
    on: Annotated[
        str, typer.Option("--on", help="id or email: the field that finds a row's customer.", metavar="FIELD")
    ] = "id",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
    restore: Annotated[bool, typer.Option("--restore", help="Restore deleted customers.")] = False,
    skip_errors: Annotated[
        bool, typer.Option("--skip-errors", help="Import the valid rows, skip the others.")
    ] = False,
    empty: Annotated[
        str,
        typer.Option("--empty", help="clear or keep: what an empty cell does to its field.", metavar="WHAT"),
    ] = "clear",
    metadata: Annotated[
        str,
        typer.Option(
            "--metadata",
            help="replace or merge: what a row's metadata does to that of its customer.",
            metavar="HOW",
        ),
    ] = "replace",
    mails: MailsOption = None,
    plan: Annotated[
        str | None, typer.Option("--plan", help="Import only if the plan is this one, named by a dry run.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", help="A name for this import: run again with it, it resumes.", metavar="TEXT"),
    ] = None,
    output_fmt: OutputOption = "table",
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Create and change customers from a file: all rows, or none if one is wrong.

    The file is CSV of any encoding and delimiter, an Excel workbook (.xlsx), NDJSON, a JSON array, or vCards.
    Headings of other programs are known (First Name, E-Mail-Adresse, Téléphone …); --map names the field of
    any other column. A row without the key field is a new customer; a field that a row does not have stays as
    it is. A row with a version changes its customer only at that version, and is a conflict otherwise.
    Without --mails the events are marked, so that no rule sends a mail for them unless it says `bulk = true`.
    Exits 7 if rows are wrong, 8 if some rows or cells were skipped.

    Example: custsvc import customers.csv --dry-run -o table

    Example: custsvc import outlook.csv --on email --map 'Business Phone=phone' --others metadata
    """
    output.checked(output_fmt)
    for name, value, words in (
        ("--on", on, ("id", "email")),
        ("--empty", empty, ("clear", "keep")),
        ("--metadata", metadata, ("replace", "merge")),
    ):
        if value not in words:
            raise typer.BadParameter(f"must be {words[0]} or {words[1]}", param_hint=name)
    if Path(file).suffix.lower() == _OLD_WORKBOOK:
        message = "is a workbook of Excel's old format; save it as .xlsx or CSV"
        raise typer.BadParameter(message, param_hint="FILE")
    asked, columns = _asked(fmt, encoding, delimiter, sheet, [*_lines(map_file), *(map_ or ())], others)
    with opened(file, "rb") if file != "-" else nullcontext():
        pass  # a file that is not there is said before any server is looked for
    settings = settings_for("import", ("backend",), backend=backend, data_dir=data_dir, log_level=log_level)
    from ..notify.rules.forecast import Forecast
    from ..stores import open_store
    from ..transfer.load import ImportRefused, Options, load
    from ..transfer.meaning import Empty, Meaning, Metadata
    from ..transfer.plan import Key

    meaning = Meaning(cast(Empty, empty), cast(Metadata, metadata))
    options = Options(cast(Key, on), restore, skip_errors, dry_run, plan, meaning, mails=mails is True)
    forecast = Forecast.of(settings)
    with open_store(settings) as store, opened(file, "rb") as source:
        store.migrate()
        claim_source(settings, store)
        try:
            import_with = partial(load, forecast=forecast, decide=lambda _: decided(mails, forecast))
            report = _load(import_with, store, source, file, asked, columns, options, key)
        except ImportRefused as exc:
            _print(exc.report, output_fmt)
            _say_file(exc.report)
            raise
    _print(report, output_fmt)
    _conclude(report)


def _load(
    load: Callable[..., Report],
    store: Any,
    source: IO[bytes],
    file: str,
    asked: Asked,
    columns: Columns,
    options: Options,
    key: str | None,
) -> Report:
    from ..service.customers import Caller
    from ..service.duplicates import DuplicateFinder
    from ..service.idempotency import Keyed
    from ..transfer.imported import Imports
    from ..transfer.likely import Likely
    from ..transfer.rows import read
    from ..transfer.shape import shape_of

    shape = shape_of(source, asked, Path(file).name)

    def rows() -> Reading:
        source.seek(0)
        return read(source, shape, columns)

    keyed = Keyed("cli", key, _digest(source, asked, columns, options)) if key else None
    caller, imports = Caller("import", keyed=keyed), Imports(store.shelf)
    likely = Likely(DuplicateFinder(store.duplicates, store.customers))
    return load(store.customers, rows, options, caller, store.answers, imports=imports, likely=likely)


def _digest(source: IO[bytes], asked: Asked, columns: Columns, options: Options) -> bytes:
    """The hash of the file and of all that says what its rows are and do."""
    from hashlib import sha256

    from ..transfer.shape import Asked

    meaning = options.meaning
    about = f"{options.on} {options.restore} {options.skip_errors} {meaning.empty} {meaning.metadata}"
    digest = sha256(f"import {about}{' mails' * options.mails}\n".encode())
    # What is not given adds nothing, so that keys of older releases stay valid.
    if columns.fields or columns.others != "refuse":
        digest.update(repr(columns).encode())
    if asked != Asked():
        digest.update(repr(asked).encode())
    for piece in iter(lambda: source.read(1 << 20), b""):
        digest.update(piece)
    return digest.digest()


def _asked(
    fmt: str | None,
    encoding: str | None,
    delimiter: str | None,
    sheet: str | None,
    pairs: list[str],
    others: str,
) -> tuple[Asked, Columns]:
    """What the options say of the file. Raises a usage error."""
    from ..transfer.headings import Columns
    from ..transfer.shape import Asked

    try:
        return Asked.of(fmt, encoding, delimiter, sheet), Columns.of(pairs, others)
    except ValidationError as exc:
        wrong = exc.errors[0]
        raise typer.BadParameter(wrong.message, param_hint=f"--{wrong.field}") from exc


def _lines(file: Path | None) -> list[str]:
    """The pairs of a map file. Raises BadArgument."""
    if file is None:
        return []
    import json

    try:
        with file.open(encoding="utf-8-sig") as opened_file:
            text = opened_file.read(_MAP_FILE_MAX)
        if not text.lstrip().startswith("{"):
            return [line for line in text.splitlines() if line.strip()]
        return [f"{column}={'' if name is None else name}" for column, name in json.loads(text).items()]
    except (OSError, ValueError) as exc:
        fix = "write lines like Phone Number=phone, or a JSON object, in UTF-8"
        raise BadArgument(f"cannot read {file} ({exc})", fix=fix) from exc


# -- what is printed ---------------------------------------------------------------------------------------


def _print(report: Report, fmt: str) -> None:
    whole = report.as_dict()
    if fmt == "json":
        output.one("json", whole)
        return
    found = [_flat(row) for row in whole["rows"]]
    if found or fmt != "table":
        columns = ("row", "action", "id", "name", "changed", "field", "code", "message", "value")
        output.rows(
            fmt, columns, whole["rows"] if fmt == "ndjson" else [each for rows in found for each in rows]
        )


def _flat(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row of the report as rows of a table: one for each of its errors and warnings."""
    about = {**row, "changed": ", ".join(row["changed"])}
    found = [*row["errors"], *row["warnings"]]
    if ids := row["duplicates"]:
        found.append(
            {"code": "likely_duplicate", "message": f"is likely customer {', '.join(map(str, ids))}"}
        )
    return [{**about, **each} for each in found] or [about]


def _say_file(report: Report) -> None:
    """How the file was read."""
    file = report.file
    if file["format"] == "csv":
        sign = {"\t": "tab", None: "no delimiter"}.get(file["delimiter"], file["delimiter"])
        say(f"read as CSV, {file['encoding']}, cells separated by {sign}")
    renamed = [(each["column"].strip(), each["field"]) for each in file["columns"]]
    renamed = [(column, name) for column, name in renamed if column.lower() != name and column]
    if known := [f"{column} as {name}" for column, name in renamed if name]:
        say(f"columns: {', '.join(known)}")
    if left := [column for column, name in renamed if not name]:
        say(f"columns skipped: {', '.join(left)}")
    if file["unwrapped"]:
        say(f'{file["unwrapped"]:,} cells are written ="…": the text within was taken, with its zeros')


def _conclude(report: Report) -> None:
    _say_file(report)
    did = ", ".join(f"{count:,} {action}" for action, count in report.counts.items() if count) or "no rows"
    say(f"{'would be: ' if report.dry_run else ''}{did}; plan {report.plan}")
    lines = report.lines
    say(f"{lines.rows:,} lines of rows, {lines.heading:,} of the heading, {lines.empty:,} empty")
    if report.dry_run and report.mails_by_rules:
        say(f"with --mails the rules would send {report.mails_by_rules:,} mails for it")
    if report.duplicates and (rows := report.duplicates["rows"]):
        first = "first " if report.duplicates["looked_at"] < report.counts["create"] else ""
        looked_at = f"{report.duplicates['looked_at']:,}"
        say(f"{rows:,} of the {first}{looked_at} rows to create are likely there already")
    if report.counts["trashed"]:
        say("some rows are of deleted customers: --restore restores them")
    if report.warnings:
        say(f"{report.warnings:,} cells are skipped or doubtful: a spreadsheet has spoilt them")
    if report.import_id and not report.dry_run:
        say(f"to undo it: custsvc imports undo {report.import_id}")
    if report.dry_run and report.counts["error"]:
        raise typer.Exit(ExitCode.CHECK_FAILED)
    if report.wrong or (report.warnings and not report.dry_run):
        raise typer.Exit(ExitCode.PARTLY_DONE)
