"""`export` and `import`: customers in bulk."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, cast

import typer

from ..errors import BadArgument, ExitCode
from ..runtime import temporary
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

if TYPE_CHECKING:
    from ..transfer.load import Report
    from ..transfer.rows import Reading

FileArgument = Annotated[str, typer.Argument(help="A file, or - for stdin or stdout.", metavar="FILE")]
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
    _check_place(file)
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
    with open_store(settings) as store, _opened(file, "wb") as out:
        # An incomplete file has another name, so that nobody takes it for the whole.
        with bar("exporting", store.customers.count(where)) as progress:
            for part in export(store.customers, cast(Format, chosen), where, progress=progress):
                out.write(output.for_terminal(part, chosen) if file == "-" else part)
        out.flush()


def import_(
    file: FileArgument,
    fmt: FormatOption = None,
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
    """Create and change customers from a CSV or NDJSON file: all rows, or none if one is wrong.

    A row without the key field is a new customer; a field that a row does not have stays as it is. A row with
    a version changes its customer only at that version, and is a conflict otherwise. Exits 7 if rows are
    wrong, 8 if some were skipped.

    Example: custsvc import customers.csv --dry-run -o table
    """
    output.checked(output_fmt)
    chosen = _format(file, fmt, ("csv", "ndjson"))
    if on not in ("id", "email"):
        raise typer.BadParameter("must be id or email", param_hint="--on")
    if empty not in ("clear", "keep"):
        raise typer.BadParameter("must be clear or keep", param_hint="--empty")
    if metadata not in ("replace", "merge"):
        raise typer.BadParameter("must be replace or merge", param_hint="--metadata")
    with _opened(file, "rb") if file != "-" else nullcontext():
        pass  # a file that is not there is said before any server is looked for
    settings = settings_for("import", ("backend",), backend=backend, data_dir=data_dir, log_level=log_level)
    from hashlib import sha256

    from ..service.customers import Caller
    from ..service.idempotency import Keyed
    from ..stores import open_store
    from ..transfer.load import ImportRefused, Options, load
    from ..transfer.meaning import Empty, Meaning, Metadata
    from ..transfer.plan import Key
    from ..transfer.rows import Format, read

    meaning = Meaning(cast(Empty, empty), cast(Metadata, metadata))
    options = Options(cast(Key, on), restore, skip_errors, dry_run, plan, meaning)
    with open_store(settings) as store, _opened(file, "rb") as source:
        store.migrate()
        claim_source(settings, store)

        def rows() -> Reading:
            source.seek(0)
            return read(source, cast(Format, chosen))

        asked = sha256(f"import {on} {restore} {skip_errors} {empty} {metadata}\n".encode())
        for piece in iter(lambda: source.read(1 << 20), b""):
            asked.update(piece)
        keyed = Keyed("cli", key, asked.digest()) if key else None
        try:
            report = load(store.customers, rows, options, Caller("import", keyed=keyed), store.answers)
        except ImportRefused as exc:
            _print(exc.report, output_fmt)
            raise
    _print(report, output_fmt)
    _conclude(report)


def _print(report: Report, fmt: str) -> None:
    whole = report.as_dict()
    if fmt == "json":
        import orjson

        output.write(orjson.dumps(whole, option=orjson.OPT_INDENT_2))
        return
    found = [_flat(row) for row in whole["rows"]]
    if found or fmt != "table":
        columns = ("row", "action", "id", "name", "changed", "field", "code", "message", "value")
        output.rows(
            fmt, columns, whole["rows"] if fmt == "ndjson" else [each for rows in found for each in rows]
        )


def _flat(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row of the report as rows of a table: one for each of its errors."""
    about = {**row, "changed": ", ".join(row["changed"])}
    return [{**about, **error} for error in row["errors"]] or [about]


def _conclude(report: Report) -> None:
    did = ", ".join(f"{count:,} {action}" for action, count in report.counts.items() if count) or "no rows"
    say(f"{'would be: ' if report.dry_run else ''}{did}; plan {report.plan}")
    lines = report.lines
    say(f"{lines.rows:,} lines of rows, {lines.heading:,} of the heading, {lines.empty:,} empty")
    if report.counts["trashed"]:
        say("some rows are of deleted customers: --restore restores them")
    if report.dry_run and report.counts["error"]:
        raise typer.Exit(ExitCode.CHECK_FAILED)
    if report.wrong:
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _format(file: str, given: str | None, allowed: tuple[str, ...]) -> str:
    found = given or _SUFFIXES.get(Path(file).suffix.lower(), "ndjson" if file == "-" else "")
    if found not in allowed:
        raise typer.BadParameter(f"must be {', '.join(allowed[:-1])} or {allowed[-1]}", param_hint="--format")
    return found


def _check_place(file: str) -> None:
    """Raise BadArgument where no file can be made, before any server is looked for."""
    folder = Path(file).parent
    if file != "-" and not folder.is_dir():
        raise BadArgument(f"there is no folder {folder}", fix=f"mkdir -p {folder}")


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name when it is complete; until then a file of that name stays unchanged."""
    if path.exists() and not path.is_file():
        with path.open("wb") as device:  # a pipe or /dev/null
            yield device
        return
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as opened:
            if path.exists():
                shutil.copymode(path, part)
            yield opened
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def _opened(file: str, mode: str) -> Iterator[IO[bytes]]:
    """The file, or stdin or stdout. A source can be read again from its beginning."""
    try:
        if file != "-" and mode == "wb":
            with _whole(Path(file)) as opened:
                yield opened
        elif file != "-":
            with Path(file).open(mode) as opened:
                yield cast("IO[bytes]", opened)
        elif mode == "wb":
            yield sys.stdout.buffer
        else:
            with tempfile.TemporaryFile(dir=temporary.folder()) as copy:
                shutil.copyfileobj(sys.stdin.buffer, copy)
                yield cast("IO[bytes]", copy)
    except OSError as exc:
        if exc.filename not in (file, f"{file}.part"):
            raise
        raise BadArgument(f"cannot open {file} ({exc.strerror})", fix="name a file that exists") from exc
