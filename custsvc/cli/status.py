"""`status`: how many events wait at each step."""

from __future__ import annotations

from . import output
from .common import BackendOption, DataDirOption, LogLevelOption, OutputOption, settings_for


def status(
    backend: BackendOption = None,
    fmt: OutputOption = "table",
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Show how many events wait at each step: in the outbox, and for every consumer.

    If a server does not answer, the other steps are still shown, and the exit code reports the failure.

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
    output.rows(fmt, ("step", "state", "count", "waiting", "oldest_seconds", "detail"), found)
    if problems:
        raise problems[0]
