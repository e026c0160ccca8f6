"""Options that several commands share, and the settings made from them."""

from __future__ import annotations

import datetime as dt
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, cast

import typer

from ..errors import BadArgument
from ..runtime.extras import NotInstalled

if TYPE_CHECKING:
    from ..config import Backend, Settings
    from ..local.state import Known
    from ..ports.store import Store
    from ..runtime.loop import Stop

# The highest id of a customer; larger numbers fit in no database.
ID_MAX: Final = 2**63 - 1

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
    typer.Option(
        "--copy",
        help="The copy's name; default: its backend.",
        metavar="NAME",
        callback=lambda name: checked_copy(name),
    ),
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


class GlobalOptions:
    """How much goes to stderr: the usual, `quiet` (warnings and errors only), or `verbose`."""

    quiet = False
    verbose = False
    # What -o asked for, whatever the command is: errors are JSON under json and ndjson.
    fmt = "table"

    @classmethod
    def log_level(cls) -> str | None:
        return "DEBUG" if cls.verbose else "WARNING" if cls.quiet else None


def backend_named(name: str, option: str) -> Backend:
    """The backend with this name, or a usage error."""
    from ..config import BACKENDS

    for backend in BACKENDS:
        if backend == name:
            return backend
    raise typer.BadParameter(f"{name!r} is not one of {', '.join(BACKENDS)}", param_hint=option)


def time_of(text: str | None) -> dt.datetime | None:
    """The time that --since means, or a usage error; check it before anything is opened."""
    from ..kafka.tail import parse_time

    return None if text is None else parse_time(text)


def checked_copy(name: str | None) -> str | None:
    """The name of a copy, or a usage error."""
    from ..stores import COPY_NAME

    if name is not None and not COPY_NAME.fullmatch(name):
        raise typer.BadParameter(
            f"{name!r} cannot be the name of a copy; use letters a to z, digits and _, at most 30",
            param_hint="--copy",
        )
    return name


def checked_place(text: str | None) -> str | None:
    """A place of a topic (beginning, end, a time, or how long ago), or a usage error."""
    if text not in (None, "beginning", "end"):
        time_of(text)
    return text


def say(text: str) -> None:
    """Print a message on stderr, unless --quiet."""
    if not GlobalOptions.quiet:
        typer.echo(text, err=True)


def report(text: str, /, **facts: Any) -> None:
    """Report what was done: to a person by a sentence on stderr; under -o json by facts on stdout."""
    if GlobalOptions.fmt == "table":
        say(text)
        return
    from . import output

    output.one(GlobalOptions.fmt, facts)


def settings_for(
    role: str, needs: Iterable[Server | Literal["backend", "other"]], *, start: bool = True, **flags: Any
) -> Settings:
    """The settings of a role, with an address for each server it needs. Sets up logging.

    `needs` names servers; `backend` and `other` stand for the two databases. Addresses that are not set are
    those of the data folder's embedded servers; with `start`, servers that do not run are started.
    """
    from ..runtime import logs

    if GlobalOptions.log_level() is not None and flags.get("log_level") is None:
        flags["log_level"] = GlobalOptions.log_level()
    settings = load(flags)
    logs.set_up(settings.log_level, settings.log_format, role)
    words: dict[str, Server] = {"backend": settings.backend, "other": settings.other_backend}
    wanted: list[Server] = [words.get(need, cast("Server", need)) for need in needs]
    missing = [server for server in wanted if not getattr(settings, _SETTING_OF[server])]
    if missing and _may_embed():
        settings = _with_embedded(settings, missing, start=start)
    return settings


def load(flags: Mapping[str, Any]) -> Settings:
    """The settings. If no backend is chosen, it is the system of record of the data folder, if there is one.

    The data folder is ignored if a database address is set that is not the folder's own.
    """
    from ..config import BACKENDS, Settings

    settings = Settings.load(flags)
    if settings.kafka_options:
        from ..kafka.client import check_options

        check_options(settings)  # every command refuses a wrong setting, even one that it does not use
    if "backend" in settings.origins:
        return settings
    known = data_folder(settings)
    given = {backend: getattr(settings, _SETTING_OF[backend]) for backend in BACKENDS}
    elsewhere = any(url and url != known.url(backend) for backend, url in given.items())
    if known.source not in BACKENDS or elsewhere:
        return settings
    origins = {**settings.origins, "backend": str(settings.data_dir)}
    return settings.replace(backend=known.source, origins=origins)


def claim_source(settings: Settings, store: Store) -> None:
    """Mark this database as the system of record, in the database and in its data folder."""
    store.claim_role("source")
    known = data_folder(settings)
    if known.source is None and known.url(store.name) == settings.url(cast("Backend", store.name)):
        from ..local import LocalServers

        LocalServers(settings.data_dir).remember_source(store.name)


def expect_source(store: Store) -> None:
    """Raise ConfigurationError if this database is a copy: the command would take it for the source."""
    from ..errors import ConfigurationError
    from ..ports.facts import Fact

    if store.facts.get(Fact.ROLE) == "copy":
        other = "mongo" if store.name == "postgres" else "postgres"
        raise ConfigurationError(
            f"the {store.name} database is a copy; this command needs the system of record",
            fix=f"use --backend {other}, or set CUSTSVC_BACKEND={other}",
        )


def data_folder(settings: Settings) -> Known:
    """What the data folder remembers; nothing if it cannot be read: commands that need it report that."""
    from ..errors import ConfigurationError
    from ..local.state import Known

    try:
        return Known.of(settings.data_dir)
    except ConfigurationError:
        return Known({})


def given_addresses(settings: Settings) -> dict[str, str]:
    """The servers' addresses that are set, by variable."""
    found = {setting: str(getattr(settings, setting)) for setting in _SETTING_OF.values()}
    return {"CUSTSVC_" + setting.upper(): url for setting, url in found.items() if url}


def _may_embed() -> bool:
    return os.environ.get("CUSTSVC_LOCAL", "").lower() != "never"


def _with_embedded(settings: Settings, missing: list[Server], *, start: bool) -> Settings:
    from ..errors import ConfigurationError

    variables = ", ".join("CUSTSVC_" + _SETTING_OF[server].upper() for server in missing)
    try:
        from ..local import LocalServers, join_or_start
    except NotInstalled as exc:
        raise NotInstalled("local", exc.package, instead=f"set {variables}") from exc
    if start:
        addresses = join_or_start(settings.data_dir, missing, say)
    else:
        addresses = LocalServers(settings.data_dir).env()
    absent = [server for server in missing if "CUSTSVC_" + _SETTING_OF[server].upper() not in addresses]
    if absent:
        raise ConfigurationError(
            f"{', '.join(absent)} does not run in {settings.data_dir}, and its address is not set",
            fix=f"custsvc up, or set {', '.join('CUSTSVC_' + _SETTING_OF[s].upper() for s in absent)}",
        )
    return settings.replace(
        **{_SETTING_OF[server]: addresses["CUSTSVC_" + _SETTING_OF[server].upper()] for server in missing}
    )


def joined(settings: Settings) -> Settings:
    """The settings, with the addresses of running embedded servers where none is set."""
    from ..errors import ConfigurationError

    missing = [setting for setting in _SETTING_OF.values() if not getattr(settings, setting)]
    if not missing or not _may_embed():
        return settings
    try:
        from ..local import LocalServers

        addresses = LocalServers(settings.data_dir).env()
    except ConfigurationError:
        return settings  # The embedded servers are not installed, or belong to another user.
    return settings.replace(
        **{name: url for name in missing if (url := addresses.get("CUSTSVC_" + name.upper()))}
    )


def somebody_answers() -> bool:
    """Whether stdin is a terminal at which a question can be answered.

    Not in the background (`custsvc … &`): reading from its terminal would stop the job.
    """
    if not sys.stdin.isatty():
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:  # the terminal of another session stops nobody
        return True


def confirmed(verb: str, what: str, lines: Sequence[str], *, dry_run: bool, yes: bool) -> bool:
    """Whether to change what `lines` name. --dry-run only prints them; without --yes a person is asked."""
    if dry_run or not lines:
        if GlobalOptions.fmt == "table":
            for line in lines:
                typer.echo(line)
        report(f"{len(lines)} to {verb}.", dry_run=dry_run, count=len(lines), found=list(lines))
        return False
    if not yes:
        if not somebody_answers():
            raise BadArgument(
                f"this would {verb} {len(lines)} {what}, and there is no terminal to ask at",
                fix="confirm with --yes, or look first with --dry-run",
            )
        typer.confirm(f"{verb} {len(lines)} {what}?", abort=True, err=True)
    return True


@contextmanager
def working() -> Iterator[Stop]:
    """Run a role that works in batches: it stops on signals, and ends with its supervisor."""
    from ..runtime.gc import spare_batches
    from ..runtime.loop import Stop

    watch_parent()
    spare_batches()
    with Stop().on_signals() as stop:
        yield stop


def watch_parent() -> None:
    """End this process when the supervisor that started it ends, if there is one."""
    if "CUSTSVC_PARENT_PID" in os.environ:
        from ..runtime.process import exit_with_parent

        exit_with_parent()
