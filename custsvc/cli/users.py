"""`users`: the users who may sign in to the web app."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output
from .common import BackendOption, DataDirOption, OutputOption, Talk, report, settings_for

if TYPE_CHECKING:
    from ..ports.accounts import User
    from ..ports.store import Store

_COLUMNS = ("name", "role", "state", "created_on")

NameArgument = Annotated[str, typer.Argument(help="The user's name, as ann or ann@example.org.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of stdin.")
]

app = typer.Typer(help="Users of the web app, with their roles.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def create(
    name: NameArgument,
    role: Annotated[str, typer.Option(help="The user's role.", metavar="read|write|admin")] = "write",
    password_stdin: PasswordStdin = False,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Create a user. Asks for the password; without a terminal it generates one and prints it once.

    Example: custsvc users create ann --role write
    """
    from ..accounts.keys import ROLES
    from ..accounts.passwords import checked_name, hash_password
    from ..domain.customers import utc_now
    from ..ports.accounts import User

    if role not in ROLES:
        raise typer.BadParameter(f"{role!r} is not one of {', '.join(ROLES)}", param_hint="--role")
    name = checked_name(name)
    password, made_up = _password(from_stdin=password_stdin)
    with _store(backend, data_dir) as store:
        store.users.add(User(name, hash_password(password), role, utc_now()))
    once = " The password is shown only once:" if made_up else ""
    report(f"User {name}, role {role}.{once}", name=name, role=role, password=password if made_up else None)
    if made_up and Talk.fmt == "table":
        typer.echo(password)


@app.command("list")
def list_users(
    fmt: OutputOption = "table", backend: BackendOption = None, data_dir: DataDirOption = None
) -> None:
    """Show all users.

    Example: custsvc users list -o json
    """
    output.checked(fmt)
    with _store(backend, data_dir) as store:
        rows = [_row(user) for user in store.users.all()]
    output.rows(fmt, _COLUMNS, rows, empty="There is no user yet. Make one: custsvc users create NAME")


@app.command()
def disable(
    name: NameArgument,
    enable: Annotated[bool, typer.Option("--enable", help="Let the user sign in again.")] = False,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Sign a user out everywhere, and refuse every later sign-in (within two seconds).

    Example: custsvc users disable ann
    """
    from ..domain.customers import utc_now

    with _store(backend, data_dir) as store:
        user = _user(store, name)
        store.users.replace(replace(user, disabled_on=None if enable else utc_now()))
        ended = store.sessions.remove_of(f"user:{user.name}")
    state = "enabled" if enable else "disabled"
    report(f"{state} {user.name}; sessions ended: {ended}", name=user.name, state=state, sessions_ended=ended)


@app.command()
def passwd(
    name: NameArgument,
    password_stdin: PasswordStdin = False,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Change a user's password, and sign the user out everywhere.

    Example: custsvc users passwd ann
    """
    from ..accounts.passwords import hash_password

    with _store(backend, data_dir) as store:
        user = _user(store, name)
        password, made_up = _password(from_stdin=password_stdin)
        store.users.replace(replace(user, password=hash_password(password)))
        store.sessions.remove_of(f"user:{user.name}")
    once = ", shown only once:" if made_up else ""
    shown = password if made_up else None
    report(f"{user.name} has a new password{once}", name=user.name, password=shown)
    if made_up and Talk.fmt == "table":
        typer.echo(password)


@app.command()
def role(
    name: NameArgument,
    role: Annotated[str, typer.Argument(help="The new role.", metavar="read|write|admin")],
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Change a user's role, and sign the user out everywhere.

    Example: custsvc users role ann admin
    """
    from ..accounts.keys import ROLES

    found = next((each for each in ROLES if each == role), None)
    if found is None:
        raise typer.BadParameter(f"{role!r} is not one of {', '.join(ROLES)}", param_hint="ROLE")
    with _store(backend, data_dir) as store:
        user = _user(store, name)
        store.users.replace(replace(user, role=found))
        ended = store.sessions.remove_of(f"user:{user.name}")
    told = f"{user.name} has the role {found}; sessions ended: {ended}"
    report(told, name=user.name, role=found, sessions_ended=ended)


@app.command()
def delete(name: NameArgument, backend: BackendOption = None, data_dir: DataDirOption = None) -> None:
    """Delete a user, and sign the user out everywhere. Customers keep the name in `updated_by`.

    Views that the user did not share are deleted too.

    Example: custsvc users delete ann
    """
    with _store(backend, data_dir) as store:
        user = _user(store, name)
        store.users.remove(user.name)
        store.views.leave(f"user:{user.name}")
        ended = store.sessions.remove_of(f"user:{user.name}")
    report(f"deleted {user.name}; sessions ended: {ended}", deleted=user.name, sessions_ended=ended)


def _store(backend: str | None, data_dir: Any) -> Store:
    from ..stores import open_store

    store = open_store(settings_for("users", ("backend",), backend=backend, data_dir=data_dir))
    store.migrate()
    return store


def _user(store: Store, name: str) -> User:
    from ..accounts.passwords import folded_name
    from ..errors import NotFound

    user = store.users.find(folded_name(name))
    if user is None:
        raise NotFound(f"there is no user {name}", fix="custsvc users list")
    return user


def _password(*, from_stdin: bool) -> tuple[str, bool]:
    """The password, and whether it was generated here."""
    import secrets

    from ..accounts.passwords import checked_password

    if from_stdin:
        return checked_password(sys.stdin.readline().rstrip("\r\n")), False
    if not sys.stdin.isatty():
        return secrets.token_urlsafe(15), True
    return checked_password(_asked()), False


def _row(user: User) -> dict[str, Any]:
    from ..domain.customers import format_time

    return {
        "name": user.name,
        "role": user.role,
        "state": "disabled" if user.disabled_on else "live",
        "created_on": format_time(user.created_on),
    }


def _asked() -> str:
    answer: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return answer
