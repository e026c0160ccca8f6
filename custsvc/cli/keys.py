"""API keys on the command line: create, list, revoke."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output
from .common import BackendOption, DataDirOption, GlobalOptions, OutputOption, report, settings_for

if TYPE_CHECKING:
    from ..ports.accounts import ApiKey
    from ..ports.store import Store

_COLUMNS = ("prefix", "name", "role", "state", "created_on", "expires_on")

app = typer.Typer(help="API keys: create, list and revoke them.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="The client's name; it appears in `updated_by` and in events.")],
    role: Annotated[str, typer.Option(help="What the key allows.", metavar="read|write|admin")] = "read",
    expires: Annotated[
        str | None,
        typer.Option(help="How long it is valid, as 90d or 12h; default: forever.", metavar="TIME"),
    ] = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Create a key and print it. It cannot be shown again: the database keeps only its hash.

    Example: custsvc keys create billing --role write --expires 90d
    """
    from ..accounts.keys import ROLES, new_key
    from ..domain.customers import utc_now
    from ..stores import open_store

    if role not in ROLES:
        raise typer.BadParameter(f"{role!r} is not one of {', '.join(ROLES)}", param_hint="--role")
    now = utc_now()
    text, key = new_key(name, role, now=now, expires_on=now + _span(expires) if expires else None)
    settings = settings_for("keys", ("backend",), backend=backend, data_dir=data_dir)
    with open_store(settings) as store:
        store.migrate()
        store.keys.add(key)
    made = {"prefix": key.prefix, "name": key.name, "role": key.role, "key": text}
    report(f"Key {key.prefix} of {key.name}, role {key.role}. It is shown only once:", **made)
    if GlobalOptions.fmt == "table":
        typer.echo(text)


@app.command("list")
def list_keys(
    fmt: OutputOption = "table", backend: BackendOption = None, data_dir: DataDirOption = None
) -> None:
    """Show all keys without their secrets.

    Example: custsvc keys list -o json
    """
    from ..domain.customers import utc_now
    from ..stores import open_store

    output.checked(fmt)
    settings = settings_for("keys", ("backend",), backend=backend, data_dir=data_dir)
    with open_store(settings) as store:
        store.migrate()
        rows = [_row(key, utc_now()) for key in store.keys.all()]
    nobody = "There is no API key yet. Make one: custsvc keys create NAME --role write"
    output.rows(fmt, _COLUMNS, rows, empty=nobody)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The key's prefix, as `keys list` shows it, or its name.")],
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Revoke a key for good. Every process refuses it within two seconds.

    Example: custsvc keys revoke 3f9a0c5be871
    """
    from ..domain.customers import utc_now
    from ..errors import NotFound
    from ..stores import open_store

    settings = settings_for("keys", ("backend",), backend=backend, data_dir=data_dir)
    with open_store(settings) as store:
        store.migrate()
        prefix = _prefix_of(store, key)
        if not store.keys.revoke(prefix, utc_now()):
            raise NotFound(f"there is no live key {key}")
    report(f"revoked {prefix}", revoked=prefix)


def _prefix_of(store: Store, wanted: str) -> str:
    """The prefix of the key that `wanted` names: by prefix, by name, or (by mistake) by its whole text."""
    from ..errors import Conflict

    match = re.match(r"csk_([0-9a-f]{12})_", wanted)
    keys = store.keys.all()
    if match or any(key.prefix == wanted for key in keys):
        return match[1] if match else wanted
    named = [key.prefix for key in keys if key.name == wanted and key.revoked_on is None]
    if len(named) > 1:
        raise Conflict(f"several keys are named {wanted}: {', '.join(named)}; give the prefix")
    return named[0] if named else wanted


def _span(text: str) -> dt.timedelta:
    match = re.fullmatch(r"([1-9][0-9]{0,4})([dhm])", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a time like 90d, 12h or 30m", param_hint="--expires")
    unit = {"d": "days", "h": "hours", "m": "minutes"}[match[2]]
    return dt.timedelta(**{unit: int(match[1])})


def _row(key: ApiKey, now: dt.datetime) -> dict[str, Any]:
    from ..accounts.keys import state_of
    from ..domain.customers import format_time

    return {
        "prefix": key.prefix,
        "name": key.name,
        "role": key.role,
        "state": state_of(key, now),
        "created_on": format_time(key.created_on),
        "expires_on": format_time(key.expires_on) if key.expires_on else None,
        "revoked_on": format_time(key.revoked_on) if key.revoked_on else None,
    }
