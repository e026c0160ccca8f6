"""`bench`: measure custsvc on your own servers, beside loops that only move the same data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output
from .common import DataDirOption, LogLevelOption, say, settings_for
from .files import check_place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..bench.report import Measure

app = typer.Typer(
    help="Measure custsvc on your own servers, in its own databases and topics, deleted afterwards.\n\n"
    "Example: custsvc bench pipeline --events 50000",
    no_args_is_help=True,
    rich_markup_mode=None,
)

FormatOption = Annotated[
    str, typer.Option("--output", "-o", help="table, json, ndjson or csv.", metavar="FORMAT")
]
SaveOption = Annotated[
    Path | None,
    typer.Option("--save", help="Write the figures and the machine's facts here, as JSON.", dir_okay=False),
]


_STEPS = ("seed", "relay", "apply", "latency")


@app.command()
def pipeline(
    events: Annotated[
        int, typer.Option("--events", help="Events to seed, relay and apply.", min=1, metavar="N")
    ] = 200_000,
    seconds: Annotated[
        float, typer.Option("--seconds", help="How long latency is measured.", min=0.1, metavar="SECONDS")
    ] = 20.0,
    rate: Annotated[
        int, typer.Option("--rate", help="Writes a second while latency is measured.", min=4, metavar="N")
    ] = 500,
    only: Annotated[str, typer.Option("--only", help="seed, relay, apply or latency.", metavar="STEP")] = "",
    fmt: FormatOption = "table",
    save: SaveOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Measure seed, relay, replicate and latency in both directions, beside loops that only move the data.

    Your data is not touched; the servers are busy for some minutes.

    Example: custsvc bench pipeline --events 50000 -o json
    """
    _check(fmt, save)
    if only and only not in _STEPS:
        raise typer.BadParameter(f"{only!r} is not one of {', '.join(_STEPS)}", param_hint="--only")
    settings = settings_for(
        "bench", ("postgres", "mongo", "kafka"), data_dir=data_dir, log_level=log_level or "WARNING"
    )
    from ..bench import pipeline as bench

    sizes = bench.Sizes(events, seconds, rate)
    _print(bench.run(settings, sizes, only=only, say=say), fmt, save)


@app.command()
def api(
    customers: Annotated[
        int, typer.Option("--customers", help="Customers in the database.", min=1, metavar="N")
    ] = 100_000,
    seconds: Annotated[
        float, typer.Option("--seconds", help="How long each kind of request is measured.", min=1)
    ] = 5.0,
    fmt: FormatOption = "table",
    save: SaveOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Measure the API on both databases: GET of one, a list of 100, POST and PUT, by 32 connections of wrk.

    Example: custsvc bench api --seconds 10 -o json
    """
    _check(fmt, save)
    settings = settings_for(
        "bench", ("postgres", "mongo"), data_dir=data_dir, log_level=log_level or "WARNING"
    )
    from ..bench import api as bench

    _print(bench.run(settings, customers, seconds, say=say), fmt, save)


def _check(fmt: str, save: Path | None) -> None:
    """Refuse what cannot be printed or saved before anything is measured."""
    output.checked(fmt)
    if save:
        check_place(str(save))


def _print(measures: Iterable[Measure], fmt: str, save: Path | None) -> None:
    from ..bench.report import COLUMNS, as_rows, facts

    machine = facts()
    items = as_rows(list(measures))
    output.rows(fmt, COLUMNS, items)
    say(_sentence(machine))
    if save:
        import orjson

        save.write_bytes(orjson.dumps({"machine": machine, "measures": items}, option=orjson.OPT_INDENT_2))


def _sentence(machine: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in machine.items())
