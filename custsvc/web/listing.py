"""The list of customers that an address asks for: search, filters, sort and page.

The address has the parameters of the API's list, and three more: `state` for the tabs, `key` and `value` for
a metadata entry. If a parameter is wrong, the page shows the error and the list without filters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from flask import request

from ..http.lists import METADATA, ListRequest, cursor_of, list_request, neighbours
from ..http.problems import Problem
from ..ports.customers import Page, Position
from .access import services
from .words import plural

PATH: Final = "/ui/customers"
STATES: Final = {"live": "exclude", "trash": "only", "all": "include"}
FILTERS: Final = ("email", "name__startswith", "updated__gte", "updated__lt", "key", "value")
_PASSED_ON: Final = ("q", "email", "name__startswith", "updated__gte", "updated__lt", "limit", "cursor")
_NEWEST: Final = "-updated_on"


@dataclass(slots=True)
class Listing:
    """One page of the list, and the links from it."""

    given: dict[str, str]
    state: str
    sort: str
    rows: list[dict[str, Any]]
    next: str | None
    previous: str | None
    total: int | None
    problem: str | None = None

    @property
    def is_filtered(self) -> bool:
        return any(self.given.get(name) for name in ("q", *FILTERS))

    @property
    def filters(self) -> int:
        """The number of filters besides the search."""
        return sum(bool(self.given.get(name)) for name in FILTERS if name != "value")

    @property
    def is_first(self) -> bool:
        return self.previous is None

    @property
    def summary(self) -> str:
        """How many customers the page shows, in words."""
        if self.is_first and self.next is None:
            return plural(len(self.rows), "customer")
        if self.total is not None:
            return f"{len(self.rows)} of about {plural(self.total, 'customer')}"
        return f"{plural(len(self.rows), 'customer')} on this page"

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


def api_parameters(given: Mapping[str, str]) -> dict[str, str]:
    """The parameters of the same list in the API."""
    query = {name: given[name] for name in _PASSED_ON if given.get(name)}
    if given.get("key") or given.get("value"):
        query[METADATA + given.get("key", "")] = given.get("value", "")
    query["deleted"] = STATES.get(given.get("state", "live"), "exclude")
    query["sort"] = given.get("sort") or _NEWEST
    return query


def of_request() -> Listing:
    """The page that the current request asks for."""
    given = {name: value.strip() for name, value in request.args.items() if value.strip()}
    try:
        asked, problem = list_request(api_parameters(given), services().cursors), None
    except Problem as exc:
        given = {name: value for name, value in given.items() if name == "state"}
        asked, problem = list_request(api_parameters(given), services().cursors), exc.detail
    page = services().store.customers.find(asked.query)
    return _listing(given, asked, page, problem)


def _listing(given: dict[str, str], asked: ListRequest, page: Page, problem: str | None) -> Listing:
    query = asked.query
    following, preceding = neighbours(query, page)
    total = None
    if following and not preceding and query.filter.is_plain:
        total = services().store.customers.count(query.filter, exact=False)
    return Listing(
        given,
        state=given.get("state", "live") if given.get("state") in STATES else "live",
        sort=given.get("sort") or _NEWEST,
        rows=orjson.loads(b"[" + page.docs + b"]"),
        next=_turn(given, asked.scope, following, backward=False),
        previous=_turn(given, asked.scope, preceding, backward=True),
        total=total,
        problem=problem,
    )


def _turn(given: dict[str, str], scope: str, end: Position | None, *, backward: bool) -> str | None:
    if end is None:
        return None
    cursor = services().cursors.make(cursor_of(end, backward=backward), scope)
    return href({**given, "cursor": cursor})
