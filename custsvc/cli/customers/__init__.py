"""`customers`: look at customers and change them, over the API or at a database, one or many."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, cast

import typer

from ...errors import ExitCode
from .. import output
from ..common import say
from . import lines, merging, past
from .opened import ApiOption, BackendOption, DataDirOption, opened
from .options import (
    EmailOption,
    FormatOption,
    IdOption,
    IdsArgument,
    KeyOption,
    LimitOption,
    MetadataOption,
    NameOption,
    PhoneOption,
    VersionOption,
    cleared,
    fields_of,
    pairs,
    time_of,
)
from .shown import TABLE, columns, row, show

if TYPE_CHECKING:
    from ...client import Client, Customer, Event, Filters

app = typer.Typer(
    help="Customers: list, get, create, update, delete, restore, revert, erase, history, merge, unmerge.\n\n"
    "Over the API of CUSTSVC_API_URL (with CUSTSVC_API_KEY), else at the database of --backend. Without ids "
    "or fields, commands that change customers read JSON lines from the pipe and print a result for each.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_HISTORY = ("version", "op", "event_ts", "actor", "changed")


@app.command("list")
def list_customers(
    q: Annotated[
        str | None, typer.Option("--q", help="Beginnings of words of name, e-mail or phone.", metavar="WORDS")
    ] = None,
    email: Annotated[str | None, typer.Option("--email", help="This address.", metavar="ADDRESS")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Names that begin so.", metavar="TEXT")] = None,
    metadata: MetadataOption = None,
    updated_since: Annotated[
        str | None, typer.Option("--updated-since", help="Changed since: a time, or 2h, 7d.", metavar="TIME")
    ] = None,
    deleted: Annotated[
        str, typer.Option("--deleted", help="exclude, include or only.", metavar="WHICH")
    ] = "exclude",
    sort: Annotated[
        str, typer.Option("--sort", help="A field, with - before it to descend.", metavar="FIELD")
    ] = "id",
    limit: LimitOption = 50,
    fmt: FormatOption = None,
    api: ApiOption = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """List customers, and search them.

    Example: custsvc customers list --q "ada lov" --sort -updated_on -o ndjson
    """
    chosen = output.checked(fmt or TABLE)
    _check_words(deleted, sort)
    where: dict[str, Any] = {
        "q": q,
        "email": email,
        "name_startswith": name,
        "deleted": deleted,
        "sort": sort,
    }
    where["metadata"] = pairs(metadata)
    where["updated_since"] = time_of(updated_since)
    filters = cast("Filters", {name: value for name, value in where.items() if value})
    with opened(api, backend, data_dir) as client:
        found, total = _listed(client, filters, limit)
        nobody = "No customer is found. Make one: custsvc customers create --name NAME"
        output.rows(chosen, columns(chosen), (row(chosen, each) for each in found), empty=nobody)
        if total is not None and chosen == TABLE:
            say(f"the first {limit:,} of {total:,}; --limit 0 shows all")


@app.command()
def get(
    ids: IdsArgument = None,
    at: Annotated[str | None, typer.Option("--at", help="As it was at a time.", metavar="TIME")] = None,
    fmt: FormatOption = None,
    api: ApiOption = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show customers by id.

    Example: custsvc customers get 7 -o json
    """
    chosen = output.checked(fmt or TABLE)
    if not ids:
        raise typer.BadParameter("name customers by id; `custsvc customers list` finds them", param_hint="ID")
    time = time_of(at)
    from ...client import NotFound

    found: list[Customer] = []
    missing: list[NotFound] = []
    with opened(api, backend, data_dir) as client:
        for each in ids:
            try:
                found.append(client.at(each, time) if time else client.get(each))
            except NotFound as exc:
                missing.append(exc)
    if found:
        show(chosen, found, alone=len(ids) == 1)
    if missing:
        raise missing[0]


@app.command()
def create(
    name: NameOption = None,
    email: EmailOption = None,
    phone: PhoneOption = None,
    metadata: MetadataOption = None,
    key: KeyOption = None,
    fmt: FormatOption = None,
    api: ApiOption = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Create a customer; or one for each JSON line from the pipe, as {"name": "Ada", "email": null}.

    Each line has its result: line, status, id, version, and the error of one that is wrong, which holds up
    none of the others. Exits 8 if any failed.

    Example: custsvc customers create --key load-7 < people.jsonl
    """
    fields = fields_of(name, email, phone, metadata)
    if not fields:
        _lines("create", fmt, key, api, backend, data_dir)
        return
    chosen = output.checked(fmt or TABLE)
    with opened(api, backend, data_dir, writes=True) as client:
        show(chosen, [client.create(**{"name": "", **fields}, key=key)])


@app.command()
def update(
    id: IdOption = None,
    name: NameOption = None,
    email: EmailOption = None,
    phone: PhoneOption = None,
    metadata: MetadataOption = None,
    clear: Annotated[
        list[str] | None,
        typer.Option("--clear", help="Empty this field: email, phone or metadata.KEY.", metavar="FIELD"),
    ] = None,
    version: VersionOption = None,
    key: KeyOption = None,
    fmt: FormatOption = None,
    api: ApiOption = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Change fields of a customer; or of many, by JSON lines from the pipe, as {"id": 7, "phone": null}.

    Fields that are not named stay; metadata is merged. A line with a `version` changes its customer only at
    that version, so what `list` printed can be edited and sent back.

    Example: custsvc customers update 7 --phone "+44 20 7946 0000" --version 3
    """
    changes = fields_of(name, email, phone, metadata) | cleared(clear or [], pairs(metadata))
    if id is None:
        if changes:
            raise typer.BadParameter("name the customer to change", param_hint="ID")
        _lines("update", fmt, key, api, backend, data_dir)
        return
    if not changes:
        raise typer.BadParameter("say what to change, as --phone or --clear", param_hint="--name")
    chosen = output.checked(fmt or TABLE)
    with opened(api, backend, data_dir, writes=True) as client:
        show(chosen, [client.update(id, changes, version=version, key=key)])


@app.command()
def delete(
    ids: IdsArgument = None,
    version: VersionOption = None,
    key: KeyOption = None,
    fmt: FormatOption = None,
    api: ApiOption = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Delete customers, by id or by JSON lines from the pipe: 7, or {"id": 7, "version": 3}.

    They are marked as deleted and can be restored.

    Example: custsvc customers delete 7 8
    """
    if ids and len(ids) == 1:
        chosen = output.checked(fmt or TABLE)
        with opened(api, backend, data_dir, writes=True) as client:
            done = client.delete(ids[0], version=version, key=key)
        output.rows(chosen, ("id", "version", "deleted"), [{"id": ids[0], "version": done, "deleted": True}])
        return
    _lines("delete", fmt, key, api, backend, data_dir, _of_ids(ids, version))


@app.command()
def restore(
    ids: IdsArgument = None,
    version: VersionOption = None,
    key: KeyOption = None,
    fmt: FormatOption = None,
    api: ApiOption = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Restore deleted customers as they were, by id or by JSON lines from the pipe.

    Example: custsvc customers list --deleted only -o ndjson | custsvc customers restore
    """
    if ids and len(ids) == 1:
        chosen = output.checked(fmt or TABLE)
        with opened(api, backend, data_dir, writes=True) as client:
            show(chosen, [client.restore(ids[0], version=version, key=key)])
        return
    _lines("restore", fmt, key, api, backend, data_dir, _of_ids(ids, version))


@app.command()
def history(
    id: Annotated[int, typer.Argument(help="The customer's id.", metavar="ID")],
    limit: LimitOption = 50,
    fmt: FormatOption = None,
    api: ApiOption = None,
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show every change of a customer, the newest first: the events as they go to Kafka.

    Example: custsvc customers history 7 -o ndjson
    """
    from itertools import islice

    chosen = output.checked(fmt or TABLE)
    with opened(api, backend, data_dir) as client:
        events = islice(client.history(id), limit or None)
        output.rows(chosen, _HISTORY, (_event(chosen, each) for each in events))


app.command()(merging.merge)
app.command()(merging.unmerge)
app.command()(past.revert)
app.command()(past.erase)


def _lines(
    op: lines.Op,
    fmt: str | None,
    key: str | None,
    api: str | None,
    backend: str | None,
    data_dir: Path | None,
    given: bytes | None = None,
) -> None:
    """Do what lines say, those given or those from the pipe, and print their results."""
    chosen = output.checked(fmt or ("ndjson" if given is None else TABLE))
    if given is None and sys.stdin.isatty():
        raise typer.BadParameter(f"name customers, or pipe JSON lines: custsvc customers {op} < lines.jsonl")
    source: IO[bytes] = sys.stdin.buffer if given is None else io.BytesIO(given)
    tally = lines.Tally()
    with opened(api, backend, data_dir, writes=True) as client:
        results = lines.run(client, op, source, tally, key=key)
        output.rows(chosen, lines.COLUMNS, _readable(chosen, results))
    if given is None:
        say(f"{tally.done:,} done, {tally.failed:,} failed")
    if tally.failed:
        raise typer.Exit(ExitCode.PARTLY_DONE)


def _readable(fmt: str, results: Iterable[dict[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """Results whose error is a sentence, where it stands in a cell."""
    if fmt not in (TABLE, "csv"):
        return results
    return ({**each, "error": (each["error"] or {}).get("detail")} for each in results)


def _of_ids(ids: Sequence[int] | None, version: int | None) -> bytes | None:
    import orjson

    if not ids:
        if version is not None:
            raise typer.BadParameter("goes with one ID; a line has its own", param_hint="--version")
        return None
    if version is not None:
        raise typer.BadParameter("goes with one ID", param_hint="--version")
    return b"".join(orjson.dumps({"id": each}) + b"\n" for each in ids)


def _listed(client: Client, filters: Filters, limit: int) -> tuple[Iterable[Customer], int | None]:
    """The customers, and of how many they are the first; None where they are all."""
    from itertools import islice

    if limit == 0 or limit > 200:
        return islice(client.find(**filters), limit or None), None
    page = client.page(limit=limit, **filters)
    return page.customers, page.count if page.next else None


def _check_words(deleted: str, sort: str) -> None:
    """Raise a usage error for a word that the API would refuse."""
    from typing import get_args

    from ...ports.customers import SortField

    if deleted not in ("exclude", "include", "only"):
        raise typer.BadParameter("must be exclude, include or only", param_hint="--deleted")
    if sort.removeprefix("-") not in get_args(SortField):
        raise typer.BadParameter(
            f"{sort!r} is not one of {', '.join(get_args(SortField))}", param_hint="--sort"
        )


def _event(fmt: str, event: Event) -> Mapping[str, Any]:
    if fmt in (TABLE, "csv"):
        return {**event.raw, "changed": ", ".join(event.changed)}
    return event.raw
