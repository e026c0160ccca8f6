"""`customers revert` and `erase`: what a customer was, again or never more."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import output
from ..common import ID_MAX, confirmed
from .opened import ApiOption, BackendOption, DataDirOption, opened
from .options import FormatOption, KeyOption, VersionOption
from .shown import TABLE, show

_Id = Annotated[int, typer.Argument(help="The customer.", metavar="ID", min=1, max=ID_MAX)]


def revert(
    id: _Id,
    to: Annotated[int, typer.Option("--to", help="The version whose fields it gets.", metavar="N", min=1)],
    version: VersionOption = None,
    key: KeyOption = None,
    fmt: FormatOption = None,
    api: ApiOption = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Give a customer the fields that it had at an earlier version, as a new version.

    Example: custsvc customers revert 7 --to 3
    """
    chosen = output.checked(fmt or TABLE)
    with opened(api, backend, data_dir, writes=True) as client:
        show(chosen, [client.revert(id, to, version=version, key=key)])


def erase(
    id: _Id,
    version: VersionOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    key: KeyOption = None,
    fmt: FormatOption = None,
    api: ApiOption = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Erase a customer for good: its fields in every version, and those of customers merged into it.

    The customer stays as a deleted one without a name. Copies and mails follow by the event. Over the API it
    needs a key of the role admin.

    Example: custsvc customers erase 7
    """
    chosen = output.checked(fmt or TABLE)
    with opened(api, backend, data_dir, writes=True) as client:
        if not yes:
            newest = next(client.history(id))
            name = newest.after.name if newest.after else ""
            confirmed("erase", f"customer for good ({id}  {name})", [name], dry_run=False, yes=False)
            # A person agreed to the version that was shown.
            version = version or newest.version
        show(chosen, [client.erase(id, version=version, key=key)])
