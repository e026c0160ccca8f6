"""`duplicates`: customers that are likely one, of one customer or of all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from . import output
from .common import (
    ID_MAX,
    BackendOption,
    DataDirOption,
    LogLevelOption,
    expect_source,
    report,
    say,
    settings_for,
)

if TYPE_CHECKING:
    from ..ports.store import Store
    from ..service.duplicates import Dismissed

_COLUMNS = ("score", "id", "name", "duplicate", "duplicate_name", "reasons")


def duplicates(
    customer: Annotated[
        int | None,
        typer.Argument(help="A customer's id: only its duplicates.", metavar="ID", min=1, max=ID_MAX),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            "--min-score",
            help="The lowest score shown, from 0 to 1; default: 0.8.",
            min=0,
            max=1,
            metavar="SCORE",
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", help="The most pairs shown; 0: all of them.", min=0, metavar="N")
    ] = 100,
    dismissed: Annotated[
        str,
        typer.Option("--dismissed", help="exclude, include or only: dismissed pairs.", metavar="WHICH"),
    ] = "exclude",
    dismiss: Annotated[
        list[int] | None,
        typer.Option(
            "--dismiss",
            help="Say that ID and this customer are not the same; repeatable.",
            min=1,
            max=ID_MAX,
            metavar="OTHER",
        ),
    ] = None,
    undismiss: Annotated[
        list[int] | None,
        typer.Option("--undismiss", help="Take that back; repeatable.", min=1, max=ID_MAX, metavar="OTHER"),
    ] = None,
    fmt: Annotated[
        str, typer.Option("--output", "-o", help="table, json, ndjson or csv.", metavar="FORMAT")
    ] = "table",
    backend: BackendOption = None,
    data_dir: DataDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Show customers that are likely one: same address, same number, names alike; with score and reasons.

    Pairs that somebody dismissed are left out, but a copy does not know which they are. For all customers it
    reads the whole database once, and shows the pairs in the order in which it finds them.

    Example: custsvc duplicates --limit 0 -o csv

    Example: custsvc duplicates 7 --dismiss 8
    """
    output.checked(fmt)
    _check(customer, dismissed, [*(dismiss or ()), *(undismiss or ())])
    settings = settings_for(
        "duplicates", ("backend",), start=False, backend=backend, data_dir=data_dir, log_level=log_level
    )
    from ..domain.likeness import DEFAULT_SCORE
    from ..stores import open_store

    with open_store(settings) as store:
        if customer is not None and (dismiss or undismiss):
            _judge(store, customer, dismiss or (), undismiss or ())
            return
        is_copy = _checked(store)
        which = cast("Dismissed", dismissed)
        score = DEFAULT_SCORE if min_score is None else min_score
        found = _rows(store, customer, score, min(limit or 200, 200), which)
        shown = list(islice(found, limit)) if limit and fmt != "ndjson" else islice(found, limit or None)
        nobody = "No duplicates found; --min-score 0.6 shows more pairs, less likely ones."
        rows = map(_joined, shown) if fmt in ("table", "csv") else shown
        output.rows(fmt, _COLUMNS, rows, empty=nobody)
        if is_copy:
            say("This is a copy: pairs that were dismissed at the system of record are shown too.")
        if next(found, None) is not None:
            say(f"There are more than {limit:,}: --limit 0 shows them all.")


def _check(customer: int | None, dismissed: str, others: Sequence[int]) -> None:
    """Raise a usage error for options that do not go together."""
    if dismissed not in ("exclude", "include", "only"):
        raise typer.BadParameter("must be exclude, include or only", param_hint="--dismissed")
    if others and customer is None:
        raise typer.BadParameter("name the customer that the others are not", param_hint="ID")
    if customer in others:
        raise typer.BadParameter("is the customer itself", param_hint="--dismiss")


def _judge(store: Store, customer: int, dismiss: Sequence[int], undismiss: Sequence[int]) -> None:
    """Note which others this customer is not, as they are now, and which it may be again."""
    from ..service.duplicates import DuplicateFinder

    expect_source(store)
    finder = DuplicateFinder(store.duplicates, store.customers)
    for other in dismiss:
        finder.dismiss([customer, other], "cli")
    taken_back = sum(finder.undismiss([customer, other]) for other in undismiss)
    done = f"{len(dismiss):,} pairs dismissed, {taken_back:,} to be looked at again"
    report(done, dismissed=len(dismiss), undismissed=taken_back)


def _checked(store: Store) -> bool:
    """Whether the database is a copy. Raises ConfigurationError without the indexes that look-ups use.

    It makes none: they would slow the writes of a copy down for good.
    """
    from ..errors import ConfigurationError
    from ..ports.facts import Fact

    is_copy = store.facts.get(Fact.ROLE) == "copy"
    if not store.has_lists():
        raise ConfigurationError(
            "this database lacks the indexes by which duplicates are looked up",
            fix="look at the system of record (--backend), or serve this copy: custsvc serve --read-only"
            if is_copy
            else f"custsvc migrate --backend {store.name}",
        )
    return is_copy


def _rows(
    store: Store, customer: int | None, min_score: float, at_once: int, dismissed: Dismissed
) -> Iterator[dict[str, Any]]:
    """One row for each pair, as it is found."""
    from ..service.duplicates import DuplicateFinder, Place

    finder = DuplicateFinder(store.duplicates, store.customers)
    if customer is not None:
        found = finder.of(customer, min_score=min_score, dismissed=dismissed)
        yield from _named(store, ((customer, each.id, each.score, each.reasons) for each in found))
        return
    place: Place | None = Place(0, 0)
    while place is not None:
        page = finder.pairs(limit=at_once, after=place, min_score=min_score, dismissed=dismissed)
        yield from _named(store, ((*each.pair, each.score, each.reasons) for each in page.pairs))
        place = page.place


def _named(
    store: Store, found: Iterable[tuple[int, int, float, tuple[str, ...]]]
) -> Iterator[dict[str, Any]]:
    """Rows with the names of both."""
    pairs = list(found)
    there = store.customers.get_many(sorted({id_ for one, other, *_ in pairs for id_ in (one, other)}))
    for one, other, score, reasons in pairs:
        names = [there[id_].customer().fields.name if id_ in there else "" for id_ in (one, other)]
        yield {
            "score": score,
            "id": one,
            "name": names[0],
            "duplicate": other,
            "duplicate_name": names[1],
            "reasons": list(reasons),
        }


def _joined(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "reasons": ", ".join(row["reasons"])}
