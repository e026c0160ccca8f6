"""`tail-events`: show the events on the topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import output
from .common import ID_MAX, DataDirOption, LogLevelOption, checked_place, settings_for, time_of

if TYPE_CHECKING:
    from ..kafka.tail import Seen


def tail_events(
    start: Annotated[
        str,
        typer.Option(
            "--from", help="beginning, end, a time, or how long ago: 30s, 15m, 2h.", metavar="PLACE"
        ),
    ] = "end",
    until: Annotated[str | None, typer.Option("--until", help="Stop at this time.", metavar="TIME")] = None,
    customer: Annotated[
        int | None, typer.Option("--customer", help="Only this customer.", min=1, max=ID_MAX, metavar="ID")
    ] = None,
    op: Annotated[
        str | None,
        typer.Option(
            "--op", help="Only created, updated, deleted, restored, erased or snapshot.", metavar="OP"
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", help="Stop after N events.", min=1, metavar="N")
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
    checked_place(start)
    ends = time_of(until)
    settings = settings_for("tail", ("kafka",), start=False, data_dir=data_dir, log_level=log_level)
    from itertools import islice

    from ..kafka.tail import watch
    from ..runtime.loop import Stop
    from .diff import Printer

    printer = Printer()
    with Stop().on_signals() as stop:
        seen = watch(
            settings,
            start=start,
            until=ends,
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
    """The event's own bytes after its place; for a record that is not an event, the problem instead."""
    import orjson

    place = {"partition": seen.partition, "offset": seen.offset, "timestamp_ms": seen.timestamp_ms}
    if seen.event is None or seen.value is None:
        return orjson.dumps({**place, "problem": seen.problem})
    return orjson.dumps(place)[:-1] + b',"event":' + b" ".join(seen.value.split(b"\n")) + b"}"
