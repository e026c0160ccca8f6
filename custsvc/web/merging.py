"""Make several customers one: choose them, compare field by field, look at the result, merge, and undo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from flask import Blueprint, redirect, render_template, request

from ..domain.customers import Customer, Stored
from ..domain.search import asked
from ..errors import Conflict, NotFound, ValidationError, VersionConflict
from ..ports.customers import CustomerFilter, CustomerQuery
from ..service.merging import MERGED_MAX, Merge, Preview
from . import once, toast
from .access import needs, route, services
from .duplicates import Alike, alike
from .editing import label
from .merge import ABSENT, flat, same
from .one import number_of

_CANDIDATES: Final = 20


def add_routes(blueprint: Blueprint) -> None:
    base = "/ui/customers/<id:customer_id>"
    route(blueprint, f"{base}/merge", merge, "GET", "POST")
    route(blueprint, f"{base}/unmerge", unmerge, "POST")


@dataclass(frozen=True, slots=True)
class Choice:
    """A field in which the customers differ: what each has, and whose value is picked."""

    name: str
    values: dict[int, Any]
    picked: int


@needs("write")
def merge(customer_id: int) -> Any:
    path = f"/ui/customers/{customer_id}"
    if request.method == "POST" and once.done() is not None:
        return redirect(path, 303)
    survivor = services().customers.get(customer_id)
    versions = _versions()
    others = _live(list(versions), survivor.id)
    if not others:
        return _choose(survivor)
    if request.method == "GET":
        return _compare(survivor, others, {})
    picks = _picks([survivor, *others])
    wanted = _wanted(survivor, others, picks, versions)
    expected = number_of(request.form.get("version", ""))
    if request.form.get("step") != "merge":
        return _previewed(survivor, others, picks, wanted, expected)
    try:
        stored = once.change(
            lambda who: services().customers.merge(customer_id, wanted, who, expected=expected).stored
        )
    except (VersionConflict, ValidationError) as exc:
        return _compare(survivor, others, picks, wrong=_reason(exc)), 409
    names = ", ".join(each.customer().fields.name for each in others)
    toast.put(
        f"{names} {'is' if len(others) == 1 else 'are'} part of {stored.customer().fields.name} now.",
        undo=f"{path}/unmerge",
        fields={"version": str(stored.version)},
    )
    return redirect(path, 303)


@needs("write")
def unmerge(customer_id: int) -> Any:
    path = f"/ui/customers/{customer_id}"
    try:
        once.change(
            lambda who: (
                services()
                .customers.unmerge(customer_id, who, expected=number_of(request.form.get("version", "")))
                .stored
            )
        )
    except VersionConflict:
        toast.put("It was changed meanwhile, so nothing was undone. Look at it first.", kind="bad")
    except Conflict as exc:
        toast.put(f"The merge cannot be undone: {exc}.", kind="bad")
    else:
        toast.put("The merge was undone: all of them are customers of their own again.")
    return redirect(path, 303)


def _choose(survivor: Stored) -> str:
    """The page on which the other customers are looked for: at first those that are likely the same."""
    likely = [] if "q" in request.args else alike(survivor.id)
    text = request.args.get("q", survivor.customer().fields.name).strip()[:100]
    where = CustomerFilter().asking(asked(text))
    page = services().store.customers.find(CustomerQuery(limit=_CANDIDATES + 1, filter=where))
    customers = [Customer.decode(orjson.dumps(each)) for each in orjson.loads(b"[" + page.docs + b"]")]
    known = {survivor.id, *(each.customer.id for each in likely)}
    found = likely + [Alike(each) for each in customers if each.id not in known][:_CANDIDATES]
    return render_template("customers/merge.html", survivor=survivor.customer(), q=text, found=found)


def _compare(
    survivor: Stored,
    others: list[Stored],
    picks: Mapping[str, int],
    *,
    preview: Preview | None = None,
    wrong: str = "",
) -> str:
    everybody = [survivor, *others]
    choices, alike = _choices(everybody, picks)
    return render_template(
        "customers/merge.html",
        survivor=survivor.customer(),
        others=[each.customer() for each in others],
        choices=choices,
        alike=alike,
        preview=preview,
        wrong=wrong,
        label=label,
        absent=ABSENT,
    )


def _previewed(
    survivor: Stored, others: list[Stored], picks: Mapping[str, int], wanted: Merge, expected: int | None
) -> Any:
    try:
        preview = services().customers.preview_merge(survivor.id, wanted, expected=expected)
    except (VersionConflict, ValidationError) as exc:
        return _compare(survivor, others, picks, wrong=_reason(exc)), 409
    return _compare(survivor, others, picks, preview=preview)


def _choices(everybody: list[Stored], picks: Mapping[str, int]) -> tuple[list[Choice], list[tuple[str, Any]]]:
    """The fields in which they differ, and those in which they do not, with the value."""
    values = {each.id: flat(each.customer().fields) for each in everybody}
    choices, alike = [], []
    for name in dict.fromkeys(name for fields in values.values() for name in fields):
        having = {customer_id: fields.get(name, ABSENT) for customer_id, fields in values.items()}
        first, *rest = having.values()
        if all(same(first, each) for each in rest):
            alike.append((name, first))
            continue
        choices.append(Choice(name, having, picks.get(name, _default(name, having))))
    return choices, alike


def _wanted(
    survivor: Stored, others: list[Stored], picks: Mapping[str, int], versions: Mapping[int, int | None]
) -> Merge:
    """The merge that the picks ask for: a patch with each value that is not the one taken by itself."""
    choices, _ = _choices([survivor, *others], picks)
    patch: dict[str, Any] = {"metadata": {}}
    for choice in choices:
        value, default = (
            choice.values[each] for each in (choice.picked, _default(choice.name, choice.values))
        )
        field, _, key = choice.name.partition(".")
        if not same(value, default):
            (patch[field] if key else patch)[key or field] = None if value is ABSENT else value
    return Merge({each.id: versions[each.id] for each in others}, patch)


def _picks(everybody: list[Stored]) -> dict[str, int]:
    ids = {each.id for each in everybody}
    found = {
        name.removeprefix("pick:"): number_of(value)
        for name, value in request.form.items()
        if name[:5] == "pick:"
    }
    return {name: value for name, value in found.items() if value in ids}


def _versions() -> dict[int, int | None]:
    """The other customers, as `from=8` or `from=8-2`, with the version that the page showed."""
    found: dict[int, int | None] = {}
    for text in [*request.args.getlist("from"), *request.form.getlist("from")][:MERGED_MAX]:
        customer_id, _, version = text.partition("-")
        if (number := number_of(customer_id)) is not None:
            found[number] = number_of(version)
    return found


def _live(ids: list[int], survivor: int) -> list[Stored]:
    """The customers to merge in; a deleted one, or none, is left out of a page and refused by the merge."""
    stored = services().store.customers.get_many([each for each in ids if each != survivor])
    gone = [each for each in ids if each != survivor and (each not in stored or stored[each].deleted)]
    if gone:
        raise NotFound(f"customer {gone[0]} is not there any more, so it cannot be merged")
    return [stored[each] for each in ids if each != survivor]


def _reason(exc: Exception) -> str:
    if isinstance(exc, VersionConflict):
        return "One of them was changed meanwhile. This is how they are now: choose again."
    return f"They cannot be merged like this: {exc}."


def _default(name: str, values: Mapping[int, Any]) -> int:
    """Whose value a merge takes by itself: the survivor's, or the first that there is."""
    empty = ABSENT if name.startswith("metadata.") else None
    return next(each for each, value in values.items() if value is not empty)
