"""`topics grow` and `topics drop-old`: more partitions for the topic of events."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import (
    BackendOption,
    DataDirOption,
    LogLevelOption,
    confirmed,
    expect_source,
    report,
    say,
    settings_for,
    working,
)

_MOST = 10_000


def grow(
    partitions: Annotated[
        int,
        typer.Option(
            help="How many partitions there shall be: a multiple of the present number.",
            min=2,
            max=_MOST,
            metavar="N",
        ),
    ],
    without: Annotated[
        list[str] | None,
        typer.Option(
            help="A consumer group that need not follow, as one that nobody uses; may be given again.",
            metavar="GROUP",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", help="Send at most N customers a second again.", min=0.1, metavar="N"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the consumer groups that have to follow.")
    ] = False,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Give the topic of events more partitions while everything runs, each customer's events in order.

    Adds the partitions, waits until the relay uses them (it holds events back for some seconds until every
    consumer group has read the old ones), and sends each customer once more. No consumer needs a restart. It
    may be killed and run again: it goes on where it was. --backend is the source.

    Example: custsvc topics grow --partitions 24
    """
    settings = settings_for(
        "topics", ("backend", "kafka"), start=False, backend=backend, data_dir=data_dir, log_level=log_level
    )
    from ..relay.grow import Grow
    from ..stores import open_store
    from .progress import bar

    with working() as stop, open_store(settings) as store:
        expect_source(store)
        work = Grow(settings, store, stop, say)
        if dry_run:
            follow = sorted(set(work.groups()) - set(without or ()))
            report(
                f"would grow from {work.used()} to {partitions} partitions; groups that have to follow: "
                f"{', '.join(follow) or 'none'}",
                dry_run=True,
                partitions=work.used(),
                groups=follow,
            )
            return
        growth = work.switch(partitions, without or [])
        if growth.filled:
            report(f"the topic has grown to {growth.to} partitions already", partitions=growth.to, sent=0)
            return
        say(f"the relay uses {growth.to} partitions; each customer is sent once more")
        with bar("sending", work.about) as progress:
            sent = work.fill(growth, rate=rate, progress=progress)
    report(
        f"grown from {growth.was} to {growth.to} partitions, {sent:,} customers sent once more. The records "
        "from before stay until custsvc topics drop-old",
        partitions=growth.to,
        sent=sent,
    )


def drop_old(
    now: Annotated[bool, typer.Option("--now", help="Also within seven days after the growth.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Delete the records from before `topics grow`: the topic holds every customer again since then.

    Until then the topic may keep personal data of customers who were erased since: compaction cannot remove
    a record when the customer's later ones are in another partition. Refuses while a consumer group has not
    read these records.

    Example: custsvc topics drop-old
    """
    settings = settings_for(
        "topics", ("backend", "kafka"), start=False, backend=backend, data_dir=data_dir, log_level=log_level
    )
    from ..relay.grow import drop_old as drop
    from ..relay.growth import growth_of
    from ..stores import open_store

    with open_store(settings) as store:
        expect_source(store)
        growth = growth_of(store.facts, settings.topic_updates)
        if growth is None:
            report("there are no records from before a growth", deleted=0)
            return
        lines = [f"partition {part}: before offset {offset}" for part, offset in growth.since.items()]
        if not confirmed(
            "delete", f"old records of {settings.topic_updates}", lines, dry_run=dry_run, yes=yes
        ):
            return
        deleted = drop(settings, store, now=now)
    report(f"deleted {deleted:,} records from before the growth", deleted=deleted)
