"""`replay`: send customers to the topic again."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import NotFound
from . import output
from .common import (
    ID_MAX,
    BackendOption,
    DataDirOption,
    LogLevelOption,
    OutputOption,
    expect_source,
    say,
    settings_for,
    time_of,
)
from .mails import decided


def replay(
    ids: Annotated[
        list[int] | None, typer.Argument(help="Customers by id.", min=1, max=ID_MAX, metavar="ID")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All customers.")] = False,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", help="Customers changed since a time, or in the last 15m, 2h, 7d.", metavar="TIME"
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="At most N customers a second.", min=0.1, metavar="N")
    ] = None,
    mails: Annotated[
        bool | None,
        typer.Option(
            "--mails/--no-mails",
            help="Whether rules for snapshots send mails. Default: ask on a terminal, else they do.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the customers.")] = False,
    backend: BackendOption = None,
    fmt: OutputOption = "table",
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Send customers to the topic again, as they are now.

    Copies that have them already ignore them; a consumer that lost or never had them gets them. An
    interrupted replay goes on where it stopped when you give the same command again. --backend is the source.

    Example: custsvc replay --since 2h --rate 500
    """
    output.checked(fmt)
    if sum((bool(ids), everything, since is not None)) != 1:
        raise typer.BadParameter("give ids, --all or --since", param_hint="ID")
    oldest = time_of(since)
    settings = settings_for(
        "replay", ("backend", "kafka"), start=False, backend=backend, data_dir=data_dir, log_level=log_level
    )
    from ..kafka.publisher import Publisher
    from ..notify.rules.forecast import Forecast
    from ..relay.replay import Replay, Selection
    from ..runtime.loop import Stop
    from ..stores import open_store
    from .progress import bar

    selection = Selection(tuple(ids) if ids else None, oldest)
    with open_store(settings) as store, Stop().on_signals() as stop, Publisher(settings) as publisher:
        expect_source(store)
        forecast = Forecast.of(settings)
        total = Replay(settings, store, publisher).count(
            selection, seen=lambda row: forecast.add_snapshot(row.doc) if forecast else None
        )
        if dry_run:
            if forecast:
                say(f"the rules would send {forecast.total:,} mails for them")
            say(f"{total:,} customers would be sent to {settings.topic_updates}")
            output.rows(fmt, ("would_send",), [{"would_send": total}])
            return
        if ids and total < len(set(ids)):
            known = {row.id for row in store.contents.rows(ids)}
            missing = sorted(set(ids) - known)
            if missing:
                raise NotFound(f"there is no customer {', '.join(map(str, missing[:10]))}")
        wanted = decided(mails, forecast, default=True)
        with bar("sending", total) as progress:
            work = Replay(settings, store, publisher, stop=stop, rate=rate, mails=wanted, progress=progress)
            done = work.run(selection)
    if done.resumed_after:
        say(f"resumed after customer {done.resumed_after}")
    columns = ("sent", "left_to_relay")
    output.rows(fmt, columns, [{"sent": done.sent, "left_to_relay": done.left_to_relay}])
