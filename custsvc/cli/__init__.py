"""The command line: options become objects, one call does the work, the result is printed.

Results go to stdout, everything else to stderr. Modules here import nothing heavy at the top, so that
`custsvc --help` answers at once.
"""

from __future__ import annotations

import copy
import io
import os
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, NoReturn

import typer
from typer.models import CommandInfo

from .. import __version__
from ..redact import redact
from ..runtime import printable
from . import (
    anywhere,
    bench,
    customers,
    dashboards,
    doctor,
    duplicates,
    ending,
    failed,
    growth,
    health,
    importing,
    imports,
    keys,
    maintain,
    mcp,
    migrate,
    notify,
    replay,
    schema,
    schemas,
    seed,
    serve,
    sessions,
    stack,
    status,
    tail,
    transfer,
    users,
    verify,
    webhooks,
    workers,
)
from .common import GlobalOptions

app = typer.Typer(
    name="custsvc",
    help="A customer service whose every change is an event that cannot get lost.\n\n"
    "Try it: `custsvc up` starts everything on real embedded servers.",
    epilog="Anywhere: -q, --quiet: only warnings and errors on stderr. -v, --verbose: debug logs. "
    "--no-color (or NO_COLOR). --debug: the traceback of an error. -o json: results as JSON; an error is the "
    "last line on stderr, as {error, fix, exit}.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"custsvc {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A customer service whose every change is an event that cannot get lost."""


for command in (
    stack.up,
    stack.down,
    stack.env,
    serve.serve,
    workers.relay,
    workers.replicate,
    seed.seed,
    tail.tail_events,
    verify.verify,
    replay.replay,
    status.status,
    health.health,
    migrate.migrate,
    maintain.maintain,
    schema.schema,
    mcp.mcp,
    doctor.doctor,
):
    app.command()(command)
app.add_typer(customers.app, name="customers")
app.add_typer(notify.app, name="notify")
app.command("export")(transfer.export_)
app.command("import")(importing.import_)
app.command()(duplicates.duplicates)
app.add_typer(imports.app, name="imports")
app.add_typer(maintain.app, name="archive")
app.add_typer(keys.app, name="keys")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(failed.app, name="failed")
app.add_typer(users.app, name="users")
app.add_typer(sessions.app, name="sessions")
app.add_typer(doctor.config, name="config")
doctor.topics.command("grow")(growth.grow)
doctor.topics.command("drop-old")(growth.drop_old)
doctor.topics.add_typer(schemas.app, name="schema")
app.add_typer(doctor.topics, name="topics")
app.add_typer(dashboards.app, name="dashboards")
app.add_typer(bench.app, name="bench")


def _hide_secrets() -> None:
    """Print uncaught errors as Python does, without the secrets that drivers put into their messages."""

    def show(kind: type[BaseException], exc: BaseException | None, trace: TracebackType | None) -> None:
        text = "".join(traceback.format_exception(kind, exc, trace))
        sys.stderr.write(redact(printable.lines(text)))

    sys.excepthook = show
    threading.excepthook = lambda args: show(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: show(args.exc_type, args.exc_value, args.exc_traceback)


def _replace_closed_streams() -> None:
    """Open stdin, stdout and stderr on nothing if this process was started with them closed.

    Otherwise Python has no such stream, and the next connection gets its number, and with it what a child
    prints. In this order each gets its own number, the lowest one that is free.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - as long as the process
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _print_everything() -> None:
    """Escape the characters that an old terminal or locale has not: a name must not end a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _tree(arguments: list[str]) -> Any:
    """The commands, or only the one that the first argument names: to build all takes a tenth of a second."""
    name = arguments[0] if arguments else ""
    part = copy.copy(app)
    part.registered_commands = [each for each in app.registered_commands if _name(each) == name]
    part.registered_groups = [each for each in app.registered_groups if each.name == name]
    return typer.main.get_command(part if part.registered_commands or part.registered_groups else app)


def _name(command: CommandInfo) -> str:
    return command.name or typer.main.get_command_name(command.callback.__name__)  # type: ignore[union-attr]


def main() -> NoReturn:
    """Run the command line and exit. A CustsvcError prints its message and fix; any other error is a bug."""
    _replace_closed_streams()
    _print_everything()
    root = _tree(sys.argv[1:])
    given = anywhere.read(sys.argv[1:], root)
    GlobalOptions.quiet, GlobalOptions.verbose = "quiet" in given.words, "verbose" in given.words
    GlobalOptions.fmt = given.fmt
    if "no_color" in given.words:
        os.environ["NO_COLOR"] = "1"
    _hide_secrets()
    # Not `app(…)`, which replaces our excepthook by Typer's.
    as_json = given.fmt in ("json", "ndjson")
    sys.exit(ending.run(root, given.arguments, debug="debug" in given.words, as_json=as_json))
