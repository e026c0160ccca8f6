"""`sessions`: list and end the sessions of the web app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output
from .common import BackendOption, DataDirOption, OutputOption, confirmed, report, settings_for

if TYPE_CHECKING:
    from ..ports.accounts import Session
    from ..ports.store import Store

_COLUMNS = ("id", "subject", "name", "role", "created_on", "seen_on")
# Enough of a session's id to name only that one.
_ID = 16

app = typer.Typer(
    help="Sessions of the web app: users signed in by password, key or OpenID Connect.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_sessions(
    fmt: OutputOption = "table", backend: BackendOption = None, data_dir: DataDirOption = None
) -> None:
    """Show all sessions, the most recently used first.

    Example: custsvc sessions list -o json
    """
    output.checked(fmt)
    with _store(backend, data_dir) as store:
        rows = [_row(session) for session in store.sessions.all()]
    nobody = "Nobody is signed in to the web app. Who may: custsvc users list"
    output.rows(fmt, _COLUMNS, rows, empty=nobody)


@app.command()
def revoke(
    which: Annotated[
        list[str] | None,
        typer.Argument(
            help="Ids as the list shows them, subjects (user:ann, key:PREFIX, oidc:SUBJECT) or names.",
            metavar="SESSION...",
        ),
    ] = None,
    everybody: Annotated[bool, typer.Option("--all", help="End all sessions.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the sessions.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """End sessions. Their browsers must sign in again at the next request.

    To keep a user out, first disable or delete the user, revoke the key, or remove the user at the OpenID
    Connect provider.

    Example: custsvc sessions revoke oidc:2f6c1a --yes
    """
    if bool(which) == everybody:
        raise typer.BadParameter("name sessions, or say --all", param_hint="SESSION")
    with _store(backend, data_dir) as store:
        found = [each for each in store.sessions.all() if everybody or _is_one(each, which or [])]
        _check_all_found(found, which or [])
        lines = [f"{session.id[:_ID]}  {session.subject}  {session.actor}" for session in found]
        if confirmed("end", "sessions", lines, dry_run=dry_run, yes=yes):
            for session in found:
                store.sessions.remove(session.id)
            report(f"ended {len(found)}", ended=len(found))


def _is_one(session: Session, which: list[str]) -> bool:
    names = (session.subject, session.subject.partition(":")[2], session.actor)
    return any(each in names or (len(each) >= _ID and session.id.startswith(each)) for each in which)


def _check_all_found(found: list[Session], which: list[str]) -> None:
    from ..errors import NotFound

    for each in which:
        if not any(_is_one(session, [each]) for session in found):
            raise NotFound(f"there is no session {each}", fix="custsvc sessions list")


def _store(backend: str | None, data_dir: Any) -> Store:
    from ..stores import open_store

    return open_store(settings_for("sessions", ("backend",), start=False, backend=backend, data_dir=data_dir))


def _row(session: Session) -> dict[str, Any]:
    from ..domain.customers import format_time

    return {
        "id": session.id[:_ID],
        "subject": session.subject,
        "name": session.actor,
        "role": session.role,
        "created_on": format_time(session.created_on),
        "seen_on": format_time(session.seen_on),
    }
