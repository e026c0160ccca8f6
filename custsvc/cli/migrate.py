"""`migrate`: bring a database's schema up to date."""

from __future__ import annotations

from .common import BackendOption, CopyOption, DataDirOption, LogLevelOption, report, say, settings_for


def migrate(
    backend: BackendOption = None,
    copy: CopyOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Bring the database's schema up to date, without blocking live traffic.

    Roles do this at their start too. If you run it as the owner of the tables, the roles need only the right
    to read and write rows. It may be killed and run again.

    Example: custsvc migrate --backend postgres
    """
    settings = settings_for("migrate", ("backend",), backend=backend, data_dir=data_dir, log_level=log_level)
    from ..stores import open_store

    with open_store(settings, copy=copy) as store:
        done = store.migrate()
        refilled = store.refill()
    if refilled:
        say(f"recomputed the search terms and name keys of {refilled:,} customers")
    report(
        "applied " + ", ".join(done) if done else "the schema is up to date", applied=done, refilled=refilled
    )
