"""The role that mails customers."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import BackendOption, DataDirOption, LogFormatOption, LogLevelOption, settings_for, watch_parent

MaxAgeOption = Annotated[
    float | None,
    typer.Option(
        "--max-age",
        help="Events older than this are never mailed.  [env: CUSTSVC_NOTIFY_MAX_AGE; default: 86400]",
        metavar="SECONDS",
    ),
]


def notify(
    backend: BackendOption = None,
    max_age: MaxAgeOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
) -> None:
    """Mail customers about their changes, and send the mails that other services ask for.

    --backend is the database of the ledger. Start as many as you like: they share the work.

    Example: custsvc notify --backend mongo
    """
    settings = settings_for(
        "notify",
        ("backend", "kafka", "mail"),
        backend=backend,
        notify_max_age=max_age,
        data_dir=data_dir,
        log_level=log_level,
        log_format=log_format,
    )
    from ..notify.run import run_notify
    from ..workers.loop import Stop

    watch_parent()
    with Stop().on_signals() as stop:
        run_notify(settings, stop)
