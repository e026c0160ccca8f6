"""Options that several commands share, and how their settings are made."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

if TYPE_CHECKING:
    from ..config import Backend, Settings

Server = Literal["postgres", "mongo", "kafka", "mail"]

BackendOption = Annotated[
    str | None,
    typer.Option(
        "--backend", help="postgres or mongo.  [env: CUSTSVC_BACKEND; default: postgres]", metavar="NAME"
    ),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Data folder of the embedded servers.  [env: CUSTSVC_DATA_DIR; default: .custsvc]",
        file_okay=False,
    ),
]
CopyOption = Annotated[
    str | None,
    typer.Option("--copy", help="The copy's name; without it, that of its backend.", metavar="NAME"),
]
LogLevelOption = Annotated[
    str | None,
    typer.Option(
        "--log-level",
        help="DEBUG, INFO, WARNING or ERROR.  [env: CUSTSVC_LOG_LEVEL; default: INFO]",
        metavar="LEVEL",
    ),
]
LogFormatOption = Annotated[
    str | None,
    typer.Option(
        "--log-format",
        help="text, json, or auto: text on a terminal.  [env: CUSTSVC_LOG_FORMAT; default: auto]",
        metavar="FORMAT",
    ),
]
OutputOption = Annotated[str, typer.Option("--output", "-o", help="table, json or ndjson.", metavar="FORMAT")]

_SETTING_OF: dict[Server, str] = {
    "postgres": "postgres_url",
    "mongo": "mongo_url",
    "kafka": "kafka",
    "mail": "smtp_url",
}


class Talk:
    """How much is said on stderr: as usual, `quiet` (warnings and errors only), or `verbose`."""

    quiet = False
    verbose = False

    @classmethod
    def log_level(cls) -> str | None:
        return "DEBUG" if cls.verbose else "WARNING" if cls.quiet else None


def backend_named(name: str) -> Backend:
    """The backend with this name, or a usage error."""
    from ..config import BACKENDS

    for backend in BACKENDS:
        if backend == name:
            return backend
    raise typer.BadParameter(f"{name!r} is not one of {', '.join(BACKENDS)}")


def say(text: str) -> None:
    """Talk to the person, on stderr, unless they want it quiet."""
    if not Talk.quiet:
        typer.echo(text, err=True)


def settings_for(
    role: str, needs: Iterable[Server | Literal["backend", "other"]], *, start: bool = True, **flags: Any
) -> Settings:
    """The settings of a role, with an address for each server it needs, and logging set up.

    `needs` names servers; `backend` and `other` stand for the databases chosen. Addresses that nobody gave
    are those of the embedded servers of the data folder: joined where they run, and with `start` started
    where they do not.
    """
    from .. import logs
    from ..config import Settings

    if Talk.log_level() is not None and flags.get("log_level") is None:
        flags["log_level"] = Talk.log_level()
    settings = Settings.load(flags)
    logs.set_up(settings.log_level, settings.log_format, role)
    words: dict[str, Server] = {"backend": settings.backend, "other": settings.other_backend}
    wanted: list[Server] = [words.get(need, cast("Server", need)) for need in needs]
    missing = [server for server in wanted if not getattr(settings, _SETTING_OF[server])]
    if missing and os.environ.get("CUSTSVC_LOCAL") != "never":
        settings = _with_embedded(settings, missing, start=start)
    return settings


def _with_embedded(settings: Settings, missing: list[Server], *, start: bool) -> Settings:
    from ..errors import ConfigurationError
    from ..local import LocalServers, join_or_start

    if start:
        addresses = join_or_start(settings.data_dir, missing, say)
    else:
        addresses = LocalServers(settings.data_dir).env()
    absent = [server for server in missing if "CUSTSVC_" + _SETTING_OF[server].upper() not in addresses]
    if absent:
        raise ConfigurationError(
            f"{', '.join(absent)} does not run in {settings.data_dir}, and no address of it is set",
            fix=f"custsvc up, or set CUSTSVC_{_SETTING_OF[absent[0]].upper()}",
        )
    return settings.replace(
        **{_SETTING_OF[server]: addresses["CUSTSVC_" + _SETTING_OF[server].upper()] for server in missing}
    )


def joined(settings: Settings) -> Settings:
    """The settings, with the embedded servers that run standing in for addresses that nobody gave."""
    from ..errors import ConfigurationError
    from ..local import LocalServers

    if os.environ.get("CUSTSVC_LOCAL") == "never":
        return settings
    try:
        addresses = LocalServers(settings.data_dir).env()
    except ConfigurationError:
        return settings  # The embedded servers are not installed.
    missing = [setting for setting in _SETTING_OF.values() if not getattr(settings, setting)]
    return settings.replace(
        **{name: url for name in missing if (url := addresses.get("CUSTSVC_" + name.upper()))}
    )


def go_ahead(verb: str, what: str, lines: Sequence[str], *, dry_run: bool, yes: bool) -> bool:
    """Whether to change what `lines` name: shown only with --dry-run, asked for where a person can answer."""
    if dry_run or not lines:
        for line in lines:
            typer.echo(line)
        say(f"{len(lines)} to {verb}.")
        return False
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter(
                f"this would {verb} {len(lines)}; say --yes, or look first with --dry-run"
            )
        typer.confirm(f"{verb} {len(lines)} {what}?", abort=True, err=True)
    return True


def watch_parent() -> None:
    """End with the supervisor that started this process, where there is one."""
    if "CUSTSVC_PARENT_PID" in os.environ:
        from ..process import exit_with_parent

        exit_with_parent()
