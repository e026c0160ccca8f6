"""Likely duplicates: the pairs to judge, the dismissed pairs, and those of a new customer."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from flask import Blueprint, g, redirect, render_template, request

from ..domain.canonical import canonical_fields
from ..domain.customers import Customer, Fields
from ..errors import CustomerDeleted, FieldError, ValidationError
from ..http.lists import place_of
from ..ports.duplicates import Pair, Versions
from ..service.duplicates import Dismissed, Duplicate, FoundPair, Place
from . import toast
from .access import needs, route, services

PATH: Final = "/ui/duplicates"
_PER_PAGE: Final = 20
# Where pairs are rare, a page goes on looking for this many seconds.
_LOOKS_FOR: Final = 1.5
# The most customers named beside the form of a new one.
_LIKELY_SHOWN: Final = 5
_NUMBER: Final = "([1-9][0-9]{0,17})"
_SENT: Final = re.compile(f"{_NUMBER}-{_NUMBER},{_NUMBER}-{_NUMBER}")


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, PATH, index)
    route(blueprint, PATH + "/dismiss", dismiss, "POST")
    route(blueprint, PATH + "/undismiss", undismiss, "POST")
    route(blueprint, PATH + "/like", like, "POST")


@dataclass(frozen=True, slots=True)
class Alike:
    """A customer that may be the same as another one; how likely, and why."""

    customer: Customer
    score: float = 0.0
    reasons: tuple[str, ...] = ()

    @property
    def percent(self) -> int:
        return round(self.score * 100)


@dataclass(frozen=True, slots=True)
class ShownPair:
    """A pair on the page."""

    customers: tuple[Customer, Customer]
    found: FoundPair

    @property
    def percent(self) -> int:
        return round(self.found.score * 100)

    @property
    def sent(self) -> str:
        """The pair as its form sends it: `8-3,9-1` for the customers 8 and 9 at the versions 3 and 1."""
        return ",".join(f"{each.id}-{each.version}" for each in self.customers)


def index() -> Any:
    """Pairs to judge, or those that somebody said are not the same."""
    is_copy = services().copy is not None
    state = "dismissed" if request.args.get("state") == "dismissed" and not is_copy else ""
    wanted: Dismissed = "include" if is_copy else "only" if state else "exclude"
    scope = f"pages duplicates {wanted}"
    text = request.args.get("cursor", "")
    after = place_of(services().cursors.read(text, scope)) if text else None
    found, scanned, place = _pairs(after, wanted)
    following = services().cursors.make(list(place), scope) if place else None
    return render_template(
        "customers/duplicates.html",
        pairs=_shown(found),
        scanned=scanned,
        state=state,
        is_copy=is_copy,
        is_first=after is None,
        here=_href(state, text),
        next=_href(state, following) if following else None,
    )


def _href(state: str, cursor: str | None) -> str:
    query = urlencode({name: value for name, value in (("state", state), ("cursor", cursor)) if value})
    return f"{PATH}?{query}" if query else PATH


def _pairs(after: Place | None, dismissed: Dismissed) -> tuple[list[FoundPair], int, Place | None]:
    """A page of pairs, how many customers were looked at for it, and where the next page begins."""
    deadline = time.monotonic() + _LOOKS_FOR
    found: list[FoundPair] = []
    scanned, place = 0, after
    while True:
        page = services().duplicates.pairs(limit=_PER_PAGE - len(found), after=place, dismissed=dismissed)
        found += page.pairs
        scanned, place = scanned + page.scanned, page.place
        if place is None or len(found) >= _PER_PAGE or time.monotonic() > deadline:
            return found, scanned, place


def _shown(found: list[FoundPair]) -> list[ShownPair]:
    """The pairs whose customers are both there still."""
    stored = services().store.customers.get_many(sorted({id_ for each in found for id_ in each.pair}))
    live = {id_: each.customer() for id_, each in stored.items() if not each.deleted}
    return [
        ShownPair((live[each.pair.low], live[each.pair.high]), each)
        for each in found
        if each.pair.low in live and each.pair.high in live
    ]


@needs("write")
def dismiss() -> Any:
    """Note that two customers are not the same, if they still are as the page showed them."""
    pair, versions = _sent_pair()
    there = services().store.customers.get_many(pair)
    if [each.version for each in map(there.get, pair) if each] != list(versions):
        toast.put("One of the two was changed meanwhile. Look at them again.", kind="bad")
        return redirect(_back(), 303)
    services().duplicates.dismiss(pair, g.principal.name)
    names = " and ".join(there[each].customer().fields.name for each in pair)
    toast.put(
        f"{names} are not the same. The pair comes back when one of them changes.",
        undo=f"{PATH}/undismiss",
        fields={"pair": request.form["pair"], "back": _back()},
    )
    return redirect(_back(), 303)


@needs("write")
def undismiss() -> Any:
    """Show a pair again that was dismissed."""
    pair, _ = _sent_pair()
    services().duplicates.undismiss(pair)
    toast.put("The pair is to be looked at again.")
    return redirect(_back(), 303)


def _sent_pair() -> tuple[Pair, Versions]:
    """The pair of a form, as `ShownPair.sent` has it. Raises ValidationError."""
    found = _SENT.fullmatch(request.form.get("pair", ""))
    if found is None or int(found[1]) >= int(found[3]):
        raise ValidationError(
            [FieldError("pair", "bad_value", "names no two customers; load the page again")]
        )
    low, low_version, high, high_version = map(int, found.groups())
    return Pair(low, high), Versions(low_version, high_version)


def _back() -> str:
    """The address of the page that the form was on."""
    path = request.form.get("back", "")
    is_ours = path == PATH or path.startswith(PATH + "?")
    return path if is_ours and path.isprintable() else PATH


# -- a new customer ----------------------------------------------------------------------------------------


@needs("write")
def like() -> str:
    """Likely duplicates of the customer that is being typed; looked up at each change of its fields."""
    fields = _typed()
    return render_template("customers/likely.html", likely=likely(fields) if fields else [])


def likely(fields: Fields) -> list[Alike]:
    """The customers that one with these fields likely is, the likeliest first."""
    return _alike(services().duplicates.like(fields)[:_LIKELY_SHOWN])


def alike(customer_id: int) -> list[Alike]:
    """The customers that this one likely is, the likeliest first; nobody for one that is deleted."""
    try:
        found = services().duplicates.of(customer_id)[:_LIKELY_SHOWN]
    except CustomerDeleted:
        return []
    return _alike(found)


def _alike(found: Sequence[Duplicate]) -> list[Alike]:
    stored = services().store.customers.get_many([each.id for each in found])
    return [
        Alike(stored[each.id].customer(), each.score, each.reasons) for each in found if each.id in stored
    ]


def unseen(found: list[Alike]) -> bool:
    """Whether the sent form did not show one of these."""
    seen = set(request.form.getlist("seen"))
    return any(str(each.customer.id) not in seen for each in found)


def _typed() -> Fields | None:
    """The fields of a form so far, without those that are wrong; None before there is a name."""
    body: dict[str, Any] = {name: request.form.get(name, "") for name in ("name", "email", "phone")}
    try:
        return canonical_fields(body)
    except ValidationError as exc:
        wrong = {error.field for error in exc.errors}
    if "name" in wrong:
        return None
    return canonical_fields({name: value for name, value in body.items() if name not in wrong})
