"""`users`: the users who may sign in to the web app."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output
from .common import (
    BackendOption,
    DataDirOption,
    GlobalOptions,
    OutputOption,
    report,
    settings_for,
    somebody_answers,
)

if TYPE_CHECKING:
    from ..ports.accounts import Role, User
    from ..ports.store import Store

_COLUMNS = ("name", "role", "state", "second_factor", "email", "created_on")

NameArgument = Annotated[str, typer.Argument(help="The user's name, as ann or ann@example.org.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of stdin.")
]

app = typer.Typer(help="Users of the web app, with their roles.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def create(
    name: NameArgument,
    role: Annotated[str, typer.Option(help="The user's role.", metavar="read|write|admin")] = "write",
    email: Annotated[
        str | None, typer.Option(help="Where links to reset the password go, if the name is no address.")
    ] = None,
    password_stdin: PasswordStdin = False,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Create a user. Asks for the password; without a terminal it generates one and prints it once.

    Example: custsvc users create ann --role write
    """
    from ..accounts.passwords import checked_name
    from ..accounts.users import checked_address, create_user

    wanted = _role(role, "--role")
    name, email = checked_name(name), checked_address(email)
    password, made_up = _password(from_stdin=password_stdin)
    with _store(backend, data_dir) as store:
        create_user(store, name, wanted, password, email)
    once = " The password is shown only once:" if made_up else ""
    report(f"User {name}, role {role}.{once}", name=name, role=role, password=password if made_up else None)
    if made_up and GlobalOptions.fmt == "table":
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
        factors = store.factors.confirmed()
        rows = [_row(user, user.name in factors) for user in store.users.all()]
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
    from ..accounts import users

    with _store(backend, data_dir) as store:
        user = users.find_user(store, name)
        ended = users.enable(store, user) if enable else users.disable(store, user)
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
    from ..accounts.users import find_user, set_password

    with _store(backend, data_dir) as store:
        user = find_user(store, name)
        password, made_up = _password(from_stdin=password_stdin)
        set_password(store, user, password)
    once = ", shown only once:" if made_up else ""
    shown = password if made_up else None
    report(f"{user.name} has a new password{once}", name=user.name, password=shown)
    if made_up and GlobalOptions.fmt == "table":
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
    from ..accounts.users import find_user, set_role

    found = _role(role, "ROLE")
    with _store(backend, data_dir) as store:
        user = find_user(store, name)
        ended = set_role(store, user, found)
    done = f"{user.name} has the role {found}; sessions ended: {ended}"
    report(done, name=user.name, role=found, sessions_ended=ended)


@app.command()
def address(
    name: NameArgument,
    email: Annotated[str, typer.Argument(help='The address; "" for none.', metavar="ADDRESS")],
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Change where links to reset a user's password go. A link that was mailed before is void.

    Example: custsvc users address ann ann@example.org
    """
    from ..accounts.users import checked_address, find_user, set_address

    checked_address(email)  # before a server is looked for
    with _store(backend, data_dir) as store:
        user = find_user(store, name)
        found = set_address(store, user, email)
    told = (
        f"links to reset the password of {user.name} go to {found}"
        if found
        else f"{user.name} has no address"
    )
    report(told, name=user.name, email=found)


@app.command("reset-factor")
def reset_factor(name: NameArgument, backend: BackendOption = None, data_dir: DataDirOption = None) -> None:
    """Remove a user's second factor, as after the loss of a phone, and sign the user out everywhere.

    The user signs in by the password alone, and can set up another one.

    Example: custsvc users reset-factor ann
    """
    from ..accounts import users

    with _store(backend, data_dir) as store:
        user = users.find_user(store, name)
        ended = users.reset_factor(store, user)
    report(f"{user.name} has no second factor; sessions ended: {ended}", name=user.name, sessions_ended=ended)


@app.command()
def delete(name: NameArgument, backend: BackendOption = None, data_dir: DataDirOption = None) -> None:
    """Delete a user, and sign the user out everywhere. Customers keep the name in `updated_by`.

    Views that the user did not share are deleted too.

    Example: custsvc users delete ann
    """
    from ..accounts.users import delete_user, find_user

    with _store(backend, data_dir) as store:
        user = find_user(store, name)
        ended = delete_user(store, user)
    report(f"deleted {user.name}; sessions ended: {ended}", deleted=user.name, sessions_ended=ended)


def _store(backend: str | None, data_dir: Any) -> Store:
    from ..stores import open_store

    store = open_store(settings_for("users", ("backend",), backend=backend, data_dir=data_dir))
    store.migrate()
    return store


def _role(text: str, hint: str) -> Role:
    """The role of this name, or a usage error."""
    from ..accounts.keys import ROLES

    found = next((each for each in ROLES if each == text), None)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(ROLES)}", param_hint=hint)
    return found


def _password(*, from_stdin: bool) -> tuple[str, bool]:
    """The password, and whether it was generated here."""
    from ..accounts.passwords import checked_password
    from ..accounts.users import made_up_password

    if from_stdin:
        return checked_password(sys.stdin.readline().rstrip("\r\n")), False
    if not somebody_answers():
        return made_up_password(), True
    return checked_password(_asked()), False


def _row(user: User, has_factor: bool) -> dict[str, Any]:
    from ..domain.customers import format_time

    return {
        "name": user.name,
        "role": user.role,
        "state": "disabled" if user.disabled_on else "live",
        "second_factor": has_factor,
        "email": user.email,
        "created_on": format_time(user.created_on),
    }


def _asked() -> str:
    answer: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return answer
