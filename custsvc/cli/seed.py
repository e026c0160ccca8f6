"""`seed`: fill a database with made-up customers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from .common import BackendOption, DataDirOption, LogLevelOption, claim_source, report, settings_for
from .mails import MailsOption, decided

if TYPE_CHECKING:
    from ..config import Settings
    from ..notify.rules.forecast import Forecast

# The most customers that are looked at to forecast the mails of the rules.
_LOOKED_AT: Final = 10_000


def seed(
    count: Annotated[int, typer.Argument(help="How many customers to make.", min=1, metavar="N")],
    seed_number: Annotated[
        int, typer.Option("--seed", help="The same seed makes the same customers.", metavar="S")
    ] = 1,
    mails: MailsOption = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Write N made-up customers with their events, in bulk.

    Without --mails the events are marked, so that no rule sends a mail for them unless it says `bulk = true`.

    Example: custsvc seed 100000
    """
    settings = settings_for("seed", ("backend",), backend=backend, data_dir=data_dir, log_level=log_level)
    import time

    from ..stores import open_store
    from ..transfer.seed import seed_customers
    from .progress import bar

    wanted = decided(mails, _forecast(settings, count, seed_number), exact=count <= _LOOKED_AT)
    with open_store(settings) as store:
        store.migrate()
        claim_source(settings, store)
        started = time.monotonic()
        with bar("seeding", count) as progress:
            written = seed_customers(store.customers, count, seed_number, mails=wanted, progress=progress)
    seconds = time.monotonic() - started
    done = f"{written:,} customers in {seconds:.1f} s ({written / seconds:,.0f}/s)"
    report(done, customers=written, seconds=round(seconds, 3))


def _forecast(settings: Settings, count: int, seed_number: int) -> Forecast | None:
    """The mails that the rules would send for N customers, forecast from the first ones."""
    from ..notify.rules.forecast import Forecast
    from ..transfer.seed import made_up

    looked_at = min(count, _LOOKED_AT)
    forecast = Forecast.of(settings)
    if forecast is None:
        return None
    for fields in made_up(looked_at, seed_number):
        forecast.add("created", None, fields)
    return forecast.scaled(count / looked_at)
