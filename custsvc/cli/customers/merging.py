"""`customers merge` and `unmerge`: several customers become one, and are several again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .. import output
from ..common import ID_MAX, confirmed
from .opened import ApiOption, BackendOption, DataDirOption, opened
from .options import (
    EmailOption,
    FormatOption,
    KeyOption,
    MetadataOption,
    NameOption,
    PhoneOption,
    VersionOption,
    fields_of,
)
from .shown import TABLE, show

if TYPE_CHECKING:
    from ...client import Customer, MergePreview


def merge(
    into: Annotated[int, typer.Argument(help="The customer that stays.", metavar="ID", min=1, max=ID_MAX)],
    others: Annotated[
        list[int],
        typer.Argument(help="The customers that become part of it.", metavar="OTHER...", min=1, max=ID_MAX),
    ],
    name: NameOption = None,
    email: EmailOption = None,
    phone: PhoneOption = None,
    metadata: MetadataOption = None,
    version: VersionOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would become.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    key: KeyOption = None,
    fmt: FormatOption = None,
    api: ApiOption = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Make several customers one, in one step: it takes from the others what it lacks.

    The options give it other values. The others are gone then, with a link to it; `unmerge` takes it back.

    Example: custsvc customers merge 7 8 9 --dry-run
    """
    chosen = output.checked(fmt or TABLE)
    fields = fields_of(name, email, phone, metadata)
    with opened(api, backend, data_dir, writes=not dry_run) as client:
        if dry_run:
            show(chosen, [client.preview_merge(into, dict.fromkeys(others), fields).customer])
            return
        # A person agreed to the versions that were shown, and to no others.
        guarded: dict[int, int | None] = dict.fromkeys(others)
        if not yes:
            shown = {each: client.get(each) for each in (into, *others)}
            guarded = {each: shown[each].version for each in others}
            version = version or shown[into].version
            lines = _lines(client.preview_merge(into, guarded, fields), [shown[each] for each in others])
            confirmed("merge", f"customers into {into}", lines, dry_run=False, yes=False)
        show(chosen, [client.merge(into, guarded, fields, version=version, key=key)])


def _lines(preview: MergePreview, others: list[Customer]) -> list[str]:
    lines = []
    for each in others:
        took = ", ".join(field for field, of in preview.took.items() if of == each.id)
        lines.append(f"{each.id}  {each.name}" + (f"  gives {took}" if took else ""))
    return lines


def unmerge(
    id: Annotated[int, typer.Argument(help="The customer that others were merged into.", metavar="ID")],
    version: VersionOption = None,
    key: KeyOption = None,
    fmt: FormatOption = None,
    api: ApiOption = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Take back the newest merge of a customer, but not what was changed since.

    Example: custsvc customers unmerge 7
    """
    chosen = output.checked(fmt or TABLE)
    with opened(api, backend, data_dir, writes=True) as client:
        show(chosen, [client.unmerge(id, version=version, key=key)])
