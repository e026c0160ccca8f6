"""`seed`: fill a database with made-up customers."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import BackendOption, DataDirOption, LogLevelOption, claim_source, report, settings_for


def seed(
    count: Annotated[int, typer.Argument(help="How many customers to make.", min=1, metavar="N")],
    seed_number: Annotated[
        int, typer.Option("--seed", help="The same seed makes the same customers.", metavar="S")
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
    told = f"{written:,} customers in {seconds:.1f} s ({written / seconds:,.0f}/s)"
    report(told, customers=written, seconds=round(seconds, 3))
