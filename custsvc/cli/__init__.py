"""The command line: options become objects, one call does the work, the result is printed.

Results go to stdout, everything else to stderr. Modules here import nothing heavy at the top, so that
`custsvc --help` answers at once.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from types import TracebackType
from typing import Annotated, NoReturn

import typer

from .. import __version__
from ..redact import redact
from ..runtime import printable
from . import (
    bench,
    customers,
    doctor,
    ending,
    failed,
    health,
    importing,
    keys,
    migrate,
    notify,
    replay,
    schema,
    seed,
    serve,
    sessions,
    stack,
    status,
    tail,
    transfer,
    users,
    verify,
    workers,
)
from .common import Talk

app = typer.Typer(
    name="custsvc",
    help="A customer service whose every change is an event that cannot get lost.\n\n"
    "Try it: `custsvc up` starts everything on real embedded servers.",
    epilog="Anywhere: -q, --quiet: only warnings and errors on stderr. -v, --verbose: debug logs. "
    "--no-color (or NO_COLOR). --debug: the traceback of an error.",
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
    schema.schema,
    doctor.doctor,
):
    app.command()(command)
app.add_typer(customers.app, name="customers")
app.add_typer(notify.app, name="notify")
app.command("export")(transfer.export_)
app.command("import")(importing.import_)
app.add_typer(keys.app, name="keys")
app.add_typer(failed.app, name="failed")
app.add_typer(users.app, name="users")
app.add_typer(sessions.app, name="sessions")
app.add_typer(doctor.config, name="config")
app.add_typer(doctor.topics, name="topics")
app.add_typer(bench.app, name="bench")


_ANYWHERE = {
    "-q": "quiet",
    "--quiet": "quiet",
    "-v": "verbose",
    "--verbose": "verbose",
    "--no-color": "no_color",
    "--debug": "debug",
}


def _hide_secrets() -> None:
    """Print uncaught errors as Python does, without the secrets that drivers put into their messages."""

    def show(kind: type[BaseException], exc: BaseException | None, trace: TracebackType | None) -> None:
        text = "".join(traceback.format_exception(kind, exc, trace))
        sys.stderr.write(redact(printable.lines(text)))

    sys.excepthook = show
    threading.excepthook = lambda told: show(told.exc_type, told.exc_value, told.exc_traceback)
    sys.unraisablehook = lambda told: show(told.exc_type, told.exc_value, told.exc_traceback)


def main() -> NoReturn:
    """Run the command line and exit. A CustsvcError prints its message and fix; any other error is a bug."""
    given = sys.argv[1:]
    # Words after `--` belong to the command.
    end = given.index("--") if "--" in given else len(given)
    wanted = {_ANYWHERE[word] for word in given[:end] if word in _ANYWHERE}
    arguments = [word for word in given[:end] if word not in _ANYWHERE] + given[end:]
    Talk.quiet, Talk.verbose = "quiet" in wanted, "verbose" in wanted
    if "no_color" in wanted:
        os.environ["NO_COLOR"] = "1"
    _hide_secrets()
    # Not `app(…)`, which replaces our excepthook by Typer's.
    sys.exit(ending.run(typer.main.get_command(app), arguments, debug="debug" in wanted))
