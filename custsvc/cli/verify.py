"""`verify`: compare a copy with its source."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ExitCode
from . import output
from .common import (
    BackendOption,
    CopyOption,
    DataDirOption,
    LogLevelOption,
    OutputOption,
    backend_named,
    expect_source,
    say,
    settings_for,
)

if TYPE_CHECKING:
    from ..copies.verify import Report


def verify(
    backend: BackendOption = None,
    copy_name: CopyOption = None,
    copy_backend: Annotated[
        str | None,
        typer.Option("--copy-backend", help="The copy's database, if not the other one.", metavar="NAME"),
    ] = None,
    wait: Annotated[
        float,
        typer.Option("--wait", help="Seconds to wait for the copy to catch up.", min=0, metavar="SECONDS"),
    ] = 30.0,
    repair: Annotated[
        bool, typer.Option("--repair", help="Send the customers that differ to the copy again.")
    ] = False,
    fmt: OutputOption = "table",
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Prove that the copy holds exactly what its source holds, byte for byte.

    --backend is the source. Works while both change. Exits 0 if they are identical, 7 if customers differ
    (and --repair did not repair them), 8 if the copy is only behind.

    Example: custsvc verify --repair -o json
    """
    output.checked(fmt)
    holder = backend_named(copy_backend, "--copy-backend") if copy_backend else None
    settings = settings_for(
        "verify",
        ("backend", holder or "other", "kafka"),
        start=False,
        backend=backend,
        data_dir=data_dir,
        log_level=log_level,
    )
    holder = holder or settings.other_backend
    from ..copies import verify as check
    from ..copies.pipeline import pipeline, resending
    from ..ports.customers import CustomerFilter
    from ..stores import open_store
    from .progress import bar

    with (
        open_store(settings) as source,
        open_store(settings, holder, copy_name) as copy,
        pipeline(settings, source, copy) as way,
    ):
        expect_source(source)
        check.expect_copy(source, copy, copy_name or copy.name)
        about = partial(source.customers.count, CustomerFilter("include"), exact=False)
        with bar("comparing", about) as progress:
            report = check.verify(source.contents, copy.contents, way, patience=wait, progress=progress)
        if repair and report.differences:
            with resending(settings, source) as resend:
                check.repair(source.contents, copy.contents, report, resend, patience=wait)
        check.remember(source.facts, copy_name or copy.name, report)
        say(check.summary(report, (source.name, copy_name or copy.name)))
    _print_report(report, fmt)
    raise typer.Exit(
        ExitCode.CHECK_FAILED if report.unrepaired else ExitCode.PARTLY_DONE if report.behind else ExitCode.OK
    )


def _print_report(report: Report, fmt: str) -> None:
    columns = ("customer_id", "kind", "source_version", "copy_version", "fields", "repaired")
    items = [
        {
            "customer_id": d.customer_id,
            "kind": d.kind,
            "source_version": d.source_version,
            "copy_version": d.copy_version,
            "fields": d.fields if fmt in ("json", "ndjson") else ", ".join(d.fields),
            "repaired": d.repaired,
        }
        for d in report.differences
    ] + [{"customer_id": customer_id, "kind": "behind"} for customer_id in report.behind]
    if items or fmt != "table":
        output.rows(fmt, columns, items)
