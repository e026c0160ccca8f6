"""Commands about the data itself: seed, tail-events, verify, status, migrate."""

from __future__ import annotations

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
    claim_source,
    expect_source,
    say,
    settings_for,
)

if TYPE_CHECKING:
    from ..copies.verify import Report
    from ..kafka.tail import Seen


def seed(
    count: Annotated[int, typer.Argument(help="How many customers to make.", min=1, metavar="N")],
    seed_number: Annotated[
        int, typer.Option("--seed", help="The same number makes the same customers.", metavar="S")
    ] = 1,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Write N made-up customers with their events, in bulk.

    Example: custsvc seed 100000
    """
    settings = settings_for("seed", ("backend",), backend=backend, data_dir=data_dir, log_level=log_level)
    import time

    from ..stores import open_store
    from ..transfer.seed import seed_customers
    from .progress import bar

    with open_store(settings) as store:
        store.migrate()
        claim_source(settings, store)
        started = time.monotonic()
        with bar("seeding", count) as progress:
            written = seed_customers(store.customers, count, seed_number, progress=progress)
    seconds = time.monotonic() - started
    say(f"{written:,} customers in {seconds:.1f} s ({written / seconds:,.0f}/s)")


def tail_events(
    start: Annotated[
        str,
        typer.Option(
            "--from", help="beginning, end, a time, or how long ago: 30s, 15m, 2h.", metavar="PLACE"
        ),
    ] = "end",
    until: Annotated[str | None, typer.Option("--until", help="Stop at this time.", metavar="TIME")] = None,
    customer: Annotated[
        int | None, typer.Option("--customer", help="Only this customer.", metavar="ID")
    ] = None,
    op: Annotated[
        str | None,
        typer.Option(
            "--op", help="Only created, updated, deleted, restored, erased or snapshot.", metavar="OP"
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", help="Stop after so many.", min=1, metavar="N")
    ] = None,
    leave: Annotated[bool, typer.Option("--exit", help="Stop at the end instead of waiting.")] = False,
    fmt: Annotated[str, typer.Option("--output", "-o", help="text or ndjson.", metavar="FORMAT")] = "text",
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Show each change of a customer as it happens, field by field.

    Example: custsvc tail-events --from 15m --op deleted -o ndjson
    """
    output.checked(fmt, ("text", "ndjson"))
    from ..domain.events import APP_EVENT_TYPE

    if op is not None and op not in APP_EVENT_TYPE:
        raise typer.BadParameter(f"{op!r} is not one of {', '.join(APP_EVENT_TYPE)}", param_hint="--op")
    settings = settings_for("tail", ("kafka",), start=False, data_dir=data_dir, log_level=log_level)
    from itertools import islice

    from ..kafka.tail import parse_time, watch
    from ..runtime.loop import Stop
    from .diff import Printer

    printer = Printer()
    with Stop().on_signals() as stop:
        seen = watch(
            settings,
            start=start,
            until=parse_time(until) if until is not None else None,
            leave_at_end=leave,
            stopped=stop.asked,
        )
        wanted = (one for one in seen if _is_wanted(one, customer, op))
        for one in islice(wanted, count):
            if fmt == "ndjson":
                output.write(_as_line(one))
            else:
                printer.show(one)


def _is_wanted(seen: Seen, customer: int | None, op: str | None) -> bool:
    if seen.event is None:
        return customer is None and op is None
    return customer in (None, seen.event.customer_id) and op in (None, seen.event.op)


def _as_line(seen: Seen) -> bytes:
    """The event's own bytes with its place in front; a record that is no event as its problem."""
    import orjson

    place = {"partition": seen.partition, "offset": seen.offset, "timestamp_ms": seen.timestamp_ms}
    if seen.event is None or seen.value is None:
        return orjson.dumps({**place, "problem": seen.problem})
    return orjson.dumps(place)[:-1] + b',"event":' + b" ".join(seen.value.split(b"\n")) + b"}"


def verify(
    backend: BackendOption = None,
    copy_name: CopyOption = None,
    copy_backend: Annotated[
        str | None,
        typer.Option("--copy-backend", help="The copy's database, if not the other one.", metavar="NAME"),
    ] = None,
    wait: Annotated[
        float, typer.Option("--wait", help="Seconds the copy gets to catch up.", min=0, metavar="SECONDS")
    ] = 30.0,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what differs: those customers are sent to the copy again.")
    ] = False,
    fmt: OutputOption = "table",
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Prove that the copy holds exactly what its source holds, byte for byte.

    --backend is the source. Works while both change. Exits 0 when they are identical, 7 when customers
    differ (and --repair did not mend them), 8 when the copy is only behind.

    Example: custsvc verify --repair -o json
    """
    output.checked(fmt)
    settings = settings_for(
        "verify",
        ("backend", copy_backend or "other", "kafka"),  # type: ignore[arg-type]
        start=False,
        backend=backend,
        data_dir=data_dir,
        log_level=log_level,
    )
    holder = backend_named(copy_backend) if copy_backend else settings.other_backend
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
        with bar("comparing", source.customers.count(CustomerFilter("include"))) as progress:
            report = check.verify(source.replica, copy.replica, way, patience=wait, progress=progress)
        if repair and report.differences:
            with resending(settings, source) as resend:
                check.repair(source.replica, copy.replica, report, resend, patience=wait)
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


def status(
    backend: BackendOption = None,
    fmt: OutputOption = "table",
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Show what waits at each step: the outbox, and every consumer of the events.

    Where a server does not answer, the rest is shown all the same, and the exit code says so.

    Example: custsvc status -o json
    """
    output.checked(fmt)
    settings = settings_for(
        "status", ("backend", "kafka"), start=False, backend=backend, data_dir=data_dir, log_level=log_level
    )
    from ..copies.pipeline import known_steps
    from ..stores import open_store

    with open_store(settings) as store:
        found, problems = known_steps(settings, store)
    output.rows(fmt, ("step", "waiting", "oldest_seconds", "detail"), found)
    if problems:
        raise problems[0]


def migrate(
    backend: BackendOption = None,
    copy: CopyOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Bring the database's schema up to date, beside live traffic: nobody waits for it.

    Roles do it at their start too. Run it as the owner of the tables, and they need no right but to read and
    write rows. It may be killed and run again.

    Example: custsvc migrate --backend postgres
    """
    settings = settings_for("migrate", ("backend",), backend=backend, data_dir=data_dir, log_level=log_level)
    from ..stores import open_store

    with open_store(settings, copy=copy) as store:
        done = store.migrate()
        refilled = store.refill()
    if refilled:
        say(f"made the search terms and name keys of {refilled:,} customers anew")
    say("applied " + ", ".join(done) if done else "the schema is up to date")
