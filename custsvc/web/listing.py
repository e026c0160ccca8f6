"""The list of customers that an address asks for: search, filters, sort and page.

The address has the parameters of the API's list, and more: `state` for the tabs, `key` and `value` for a
metadata entry, `columns` and `rows` for what is shown, `view` for the saved view that the list came from. If
a parameter is wrong, the page shows the error and the list without filters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import orjson
from flask import request

from ..http.lists import METADATA, ListRequest, cursor_of, list_request, neighbours
from ..http.problems import Problem
from ..ports.customers import CustomerFilter, Page, Position
from ..ports.views import SavedView
from . import columns
from .access import services
from .words import plural

PATH: Final = "/ui/customers"
STATES: Final = {"live": "exclude", "trash": "only", "all": "include"}
FILTERS: Final = ("email", "name__startswith", "updated__gte", "updated__lt", "key", "value")
_PASSED_ON: Final = ("q", "email", "name__startswith", "updated__gte", "updated__lt", "limit", "cursor")
_NEWEST: Final = "-updated_on"
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
# What stays in the address when the filters are left out.
_KEPT: Final = ("state", "columns", "rows", "view")
# What a saved view holds of an address.
SAVED: Final = ("q", *FILTERS, "state", "sort", "limit", "columns", "rows")


@dataclass(slots=True)
class Listing:
    """One page of the list, and the links from it. `differs`: it is no longer the list of its view."""

    given: dict[str, str]
    state: str
    sort: str
    rows: list[dict[str, Any]]
    next: str | None
    previous: str | None
    columns: columns.Columns
    total: int | None = None
    is_exact: bool = False
    problem: str | None = None
    view: SavedView | None = None
    differs: bool = False

    @property
    def is_filtered(self) -> bool:
        return any(self.given.get(name) for name in ("q", *FILTERS))

    @property
    def filters(self) -> int:
        """The number of filters besides the search."""
        return sum(bool(self.given.get(name)) for name in FILTERS if name != "value")

    def time_input(self, name: str) -> str:
        """The kind of input for a time filter: for a day a calendar, which would lose a time of day."""
        given = self.given.get(name, "")
        return "text" if given and not _DAY.fullmatch(given) else "date"

    @property
    def is_first(self) -> bool:
        return self.previous is None

    @property
    def summary(self) -> str:
        """How many customers the page shows, in words."""
        if self.is_first and self.next is None:
            return plural(len(self.rows), "customer")
        if self.total is not None:
            about = "" if self.is_exact else "about "
            return f"{len(self.rows)} of {about}{plural(self.total, 'customer')}"
        return f"{plural(len(self.rows), 'customer')} on this page"

    @property
    def has_more(self) -> bool:
        """Whether more customers match than the page shows."""
        return self.next is not None or self.previous is not None

    @property
    def all_matching(self) -> str:
        """All customers of the list, in words."""
        if self.total is None:
            return "all that match"
        return f"all {'' if self.is_exact else 'about '}{self.total:,} that match"

    @property
    def query(self) -> str:
        """This list as a saved view holds it."""
        return saved_query({**self.given, **self.columns.parameters()})

    def href(self, **changes: str | None) -> str:
        """The address of the first page of this list, with some parameters changed."""
        return href({**self.given, "cursor": None, **changes})

    def export(self, fmt: str) -> str:
        """The address of the file with all pages of this list."""
        query = {name: value for name, value in self.given.items() if name not in ("cursor", "limit")}
        return f"{PATH}/export?{urlencode({**query, 'format': fmt})}"


def href(given: Mapping[str, str | None]) -> str:
    query = urlencode({name: value for name, value in given.items() if value})
    return f"{PATH}?{query}" if query else PATH


def saved_query(given: Mapping[str, str | None]) -> str:
    """The part of an address that a saved view holds, in a fixed order."""
    return urlencode({name: given[name] for name in SAVED if given.get(name)})


def given_by(query: str) -> dict[str, str]:
    """The parameters of a query, without empty ones."""
    return {name: value.strip() for name, value in parse_qsl(query) if value.strip()}


def filter_of_query(query: str) -> CustomerFilter:
    """The customers on all pages of the list with this query. Raises Problem."""
    given = {name: value for name, value in given_by(query).items() if name not in ("cursor", "limit")}
    return list_request(api_parameters(given), services().cursors).query.filter


def api_parameters(given: Mapping[str, str]) -> dict[str, str]:
    """The parameters of the same list in the API."""
    query = {name: given[name] for name in _PASSED_ON if given.get(name)}
    if given.get("key") or given.get("value"):
        query[METADATA + given.get("key", "")] = given.get("value", "")
    query["deleted"] = STATES.get(given.get("state", "live"), "exclude")
    query["sort"] = given.get("sort") or _NEWEST
    return query


def of_request(view: SavedView | None = None) -> Listing:
    """The page that the current request asks for; `view` is the saved view that it names."""
    given = {name: value.strip() for name, value in request.args.items() if value.strip()}
    asked_for = dict(given)
    try:
        asked, problem = list_request(api_parameters(given), services().cursors), None
    except Problem as exc:
        given = {name: value for name, value in given.items() if name in _KEPT}
        asked, problem = list_request(api_parameters(given), services().cursors), exc.detail
    page = services().store.customers.find(asked.query)
    listing = _listing(given, asked, page)
    listing.problem, listing.view = problem, view
    listing.differs = view is not None and _shown_by(given_by(view.query)) != _shown_by(asked_for)
    return listing


def _shown_by(given: Mapping[str, str]) -> str:
    return saved_query({**given, **columns.of_request(given).parameters()})


def _listing(given: dict[str, str], asked: ListRequest, page: Page) -> Listing:
    query = asked.query
    following, preceding = neighbours(query, page)
    total, is_exact = None, False
    if following and not preceding:
        total, is_exact = services().store.customers.count_if_cheap(query.filter)
    return Listing(
        given,
        state=given.get("state", "live") if given.get("state") in STATES else "live",
        sort=given.get("sort") or _NEWEST,
        rows=orjson.loads(b"[" + page.docs + b"]"),
        next=_turn(given, asked.scope, following, backward=False),
        previous=_turn(given, asked.scope, preceding, backward=True),
        columns=columns.of_request(given),
        total=total,
        is_exact=is_exact,
    )


def _turn(given: dict[str, str], scope: str, end: Position | None, *, backward: bool) -> str | None:
    if end is None:
        return None
    cursor = services().cursors.make(cursor_of(end, backward=backward), scope)
    return href({**given, "cursor": cursor})
