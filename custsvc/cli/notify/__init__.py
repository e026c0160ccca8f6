"""`notify`: the role that sends notifications, and the commands about them, one file per family."""

from __future__ import annotations

from typing import Annotated

import typer

from ..common import (
    BackendOption,
    DataDirOption,
    LogFormatOption,
    LogLevelOption,
    settings_for,
    working,
)
from . import again, lists, suppressions, trial
from .common import RulesOption

MaxAgeOption = Annotated[
    float | None,
    typer.Option(
        "--max-age",
        help="Events older than this are never mailed.  [env: CUSTSVC_NOTIFY_MAX_AGE; default: 86400]",
        metavar="SECONDS",
    ),
]
OnUnknownOption = Annotated[
    str | None,
    typer.Option(
        "--on-unknown",
        help="For a mail that may have arrived: hold it for a person, or resend it, same Message-ID.  "
        "[env: CUSTSVC_NOTIFY_ON_UNKNOWN; default: hold]",
        metavar="hold|resend",
    ),
]

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def notify(
    context: typer.Context,
    backend: BackendOption = None,
    rules: RulesOption = None,
    max_age: MaxAgeOption = None,
    on_unknown: OnUnknownOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
    log_format: LogFormatOption = None,
) -> None:
    """Notify customers of their changes, and send the mails that other services request.

    Without a command this runs the role. --backend is the database of the ledger. Start as many as you like:
    they share the work.

    Example: custsvc notify --backend mongo
    """
    if context.invoked_subcommand is not None:
        return
    settings = settings_for(
        "notify",
        ("backend", "kafka", "mail"),
        backend=backend,
        notify_rules=rules,
        notify_max_age=max_age,
        notify_on_unknown=on_unknown,
        data_dir=data_dir,
        log_level=log_level,
        log_format=log_format,
    )
    from ...notify.run import run_notify

    with working() as stop:
        run_notify(settings, stop)


app.command("list")(lists.list_notifications)
for command in (lists.show, lists.unknown, again.retry, again.discard, trial.preview, trial.test, trial.init):
    app.command()(command)
app.command()(again.restored)
app.add_typer(suppressions.app, name="suppressions")
