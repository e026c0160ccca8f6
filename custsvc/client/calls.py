"""The calls of the API: what each sends, and how its answer is read. No I/O; both clients send them.

`version` guards a write: it happens only at that version, else VersionMismatch. `key` is a write's
idempotency key: with one of your own the call can be repeated later, in another process too, and within 24
hours it is not done twice.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar, Unpack

import httpx

from .errors import ApiError, Invalid, NotPermitted, Refused
from .models import (
    Customer,
    Duplicate,
    DuplicatePair,
    Event,
    Filters,
    MergePreview,
    Operation,
    Page,
    Result,
    parameters_of,
)
from .positions import Positions
from .retry import IDEMPOTENCY_KEY, URL_FIX, json_of

_PATH: Final = "/api/customers/"
_JSON: Final = "application/json"
_MERGE_PATCH: Final = "application/merge-patch+json"
PAGE: Final = 200
"""The most customers or events of one page."""
_ETAG: Final = re.compile(r'"v(\d+)')

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and how its answer is read.

    `position` says what a copy must have got to answer it; without it only the source may. `versions` are the
    customers that a write has changed, by its answer. `instead` is the result for some errors, and raises the
    others.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    params: Mapping[str, str] | None = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: {"Accept": _JSON})
    position: Callable[[Positions], str] | None = None
    versions: Callable[[T], Mapping[int, int]] | None = None
    instead: Callable[[ApiError], T] | None = None


# -- reading -----------------------------------------------------------------------------------------------


def get(customer_id: int) -> Call[Customer]:
    """The customer. Raises NotFound, or Deleted for one that can be restored."""
    return Call("GET", _path(customer_id), _customer, position=lambda found: found.of(customer_id))


def at(customer_id: int, time: dt.datetime) -> Call[Customer]:
    """The customer as it was at a time, deleted or not. Raises NotFound where it came later."""
    return Call("GET", _path(customer_id) + "history", _customer, {"at": time.isoformat()})


def page(
    cursor: str | None = None,
    *,
    limit: int = 50,
    count: str | None = None,
    **filters: Unpack[Filters],
) -> Call[Page]:
    """One page of a list: the first, or that of a cursor, which goes with the same filters only.

    `count` is exact, estimated or none; without it the first page counts where that is cheap.
    """
    asked = parameters_of(filters) | {"limit": str(limit)}
    asked |= {"cursor": cursor} if cursor else {}
    asked |= {"count": count} if count else {}
    return Call("GET", _PATH, _page, asked, position=lambda found: found.text)


def count(**filters: Unpack[Filters]) -> Call[int]:
    """How many customers a list holds, exactly."""
    asked = parameters_of(filters) | {"limit": "1", "count": "exact"}
    return Call("GET", _PATH, lambda found: _page(found).count or 0, asked, position=lambda found: found.text)


def events_of(customer_id: int, cursor: str | None = None) -> Call[tuple[tuple[Event, ...], str | None]]:
    """One page of a customer's events, the newest first, and the cursor of the next page."""

    def read(response: httpx.Response) -> tuple[tuple[Event, ...], str | None]:
        found = json_of(response)
        return tuple(Event.of(each) for each in found["results"]), _cursor_of(found["next"])

    asked = {"limit": str(PAGE)} | ({"cursor": cursor} if cursor else {})
    return Call("GET", _path(customer_id) + "history", read, asked)


def duplicates(customer_id: int, *, limit: int = 50) -> Call[list[Duplicate]]:
    """Customers that are likely this one, the likeliest first, without the pairs that were dismissed."""

    def read(response: httpx.Response) -> list[Duplicate]:
        return [
            Duplicate(_customer_of(each["customer"]), each["score"], tuple(each["reasons"]))
            for each in json_of(response)["results"]
        ]

    # Of the source: a copy does not know what was dismissed.
    return Call("GET", _path(customer_id) + "duplicates", read, {"limit": str(limit)})


def pairs_of(
    cursor: str | None, min_score: float | None, dismissed: str
) -> Call[tuple[tuple[DuplicatePair, ...], str | None]]:
    """Some pairs of likely duplicates, even none, and the cursor of the next ones."""

    def read(response: httpx.Response) -> tuple[tuple[DuplicatePair, ...], str | None]:
        found = json_of(response)
        return tuple(_pair(each) for each in found["results"]), _cursor_of(found["next"])

    asked = {"limit": str(PAGE), "dismissed": dismissed}
    asked |= {} if min_score is None else {"min_score": str(min_score)}
    return Call("GET", _PATH + "duplicates", read, asked | ({"cursor": cursor} if cursor else {}))


def may_write() -> Call[bool]:
    """Whether the key may change customers here.

    Sends a batch without operations, which is refused in any case: because it is empty if the key may
    write, else because of the role. Raises NotPermitted for a key that is not valid.
    """

    def instead(exc: ApiError) -> bool:
        if isinstance(exc, Refused):
            return exc.status != 405  # a copy, which only shows
        if isinstance(exc, NotPermitted) and exc.status != 401:
            return False
        raise exc  # 401: not a valid key at all

    body = {"operations": list[Operation]()}
    return write("POST", _PATH + "batch", body, lambda _: True, key=None, instead=instead)


# -- writing -----------------------------------------------------------------------------------------------


def create(
    name: str,
    *,
    email: str | None = None,
    phone: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    key: str | None = None,
) -> Call[Customer]:
    """Make a customer. Raises Invalid, which names what is wrong with each field."""
    fields = {"name": name, "email": email, "phone": phone, "metadata": dict(metadata or {})}
    return write("POST", _PATH, fields, _customer, key=key)


def update(
    customer_id: int,
    changes: Mapping[str, Any],
    *,
    version: int | None = None,
    key: str | None = None,
) -> Call[Customer]:
    """Change some fields. None clears a field; metadata is merged key by key, None removes a key."""
    return write("PATCH", _path(customer_id), changes, _customer, version=version, key=key, kind=_MERGE_PATCH)


def replace(
    customer_id: int,
    fields: Mapping[str, Any],
    *,
    version: int | None = None,
    key: str | None = None,
) -> Call[Customer]:
    """Give a customer these fields and no others; what is left out is cleared."""
    return write("PUT", _path(customer_id), fields, _customer, version=version, key=key)


def delete(customer_id: int, *, version: int | None = None, key: str | None = None) -> Call[int]:
    """Mark a customer deleted; one that is stays as it is. Returns its version now."""

    def read(response: httpx.Response) -> int:
        found = _ETAG.search(response.headers.get("etag", ""))
        return int(found[1]) if found else 0

    return write("DELETE", _path(customer_id), None, read, version=version, key=key)


def restore(customer_id: int, *, version: int | None = None, key: str | None = None) -> Call[Customer]:
    """Bring a deleted customer back as it was; a live one stays as it is."""
    return write("POST", _path(customer_id) + "restore", None, _customer, version=version, key=key)


def revert(
    customer_id: int, to: int, *, version: int | None = None, key: str | None = None
) -> Call[Customer]:
    """Give a customer the fields that it had at the version `to`, as a new version."""
    body = {"version": to}
    return write("POST", _path(customer_id) + "revert", body, _customer, version=version, key=key)


def erase(customer_id: int, *, version: int | None = None, key: str | None = None) -> Call[Customer]:
    """Blank a customer and its history, for good. Needs a key of the role admin."""
    return write("POST", _path(customer_id) + "erase", None, _customer, version=version, key=key)


def merge(
    customer_id: int,
    others: Mapping[int, int | None],
    fields: Mapping[str, Any] | None = None,
    *,
    version: int | None = None,
    key: str | None = None,
) -> Call[Customer]:
    """Make the others part of this customer, all in one step; they then raise Merged.

    `others` are their ids, each with the version it must be at (None: any); `fields` a patch of what the
    customer becomes. Raises VersionMismatch.
    """
    path = _path(customer_id) + "merge"
    return write("POST", path, _merge(others, fields), _customer, version=version, key=key)


def preview_merge(
    customer_id: int, others: Mapping[int, int | None], fields: Mapping[str, Any] | None = None
) -> Call[MergePreview]:
    """What `merge` would do. Nothing is changed."""

    def read(response: httpx.Response) -> MergePreview:
        found = json_of(response)
        return MergePreview(_customer_of(found["customer"]), found["took"])

    return write("POST", _path(customer_id) + "merge?dry_run=true", _merge(others, fields), read, key=None)


def unmerge(customer_id: int, *, version: int | None = None, key: str | None = None) -> Call[Customer]:
    """Take back the newest merge of this customer, but not what was changed since."""
    return write("POST", _path(customer_id) + "unmerge", None, _customer, version=version, key=key)


def dismiss(customer_ids: Sequence[int]) -> Call[None]:
    """Say that no two of these customers are the same, as they are now. At most 20. Raises NotFound."""
    return _noted("dismiss", customer_ids)


def undismiss(customer_ids: Sequence[int]) -> Call[None]:
    """Drop what was said by `dismiss` of the pairs of these customers."""
    return _noted("undismiss", customer_ids)


def batch(
    operations: Sequence[Operation], *, atomic: bool = False, key: str | None = None
) -> Call[list[Result]]:
    """Do up to 1,000 operations in one step, each for itself, or with `atomic` all or none.

    Returns one result for each, in their order.
    """

    def read(response: httpx.Response) -> list[Result]:
        return [
            Result(each["status"], each["id"], each["version"], each["error"])
            for each in json_of(response)["results"]
        ]

    def versions(done: list[Result]) -> Mapping[int, int]:
        return {each.id: each.version for each in done if each.id and each.version}

    body = {"atomic": atomic, "operations": list(operations)}
    return write("POST", _PATH + "batch", body, read, key=key, versions=versions)


# -- how a call is made ------------------------------------------------------------------------------------


def write(
    method: str,
    path: str,
    body: Any,
    read: Callable[[httpx.Response], T],
    *,
    version: int | None = None,
    key: str | None,
    kind: str = _JSON,
    versions: Callable[[T], Mapping[int, int]] | None = None,
    instead: Callable[[ApiError], T] | None = None,
) -> Call[T]:
    """A write, with an idempotency key: `key`, or one of its own."""
    key = key or secrets.token_hex(16)
    # A comma outside of quotes parts two keys.
    headers = {"Accept": _JSON, IDEMPOTENCY_KEY: f'"{key}"' if "," in key and key[0] != '"' else key}
    if version is not None:
        headers["If-Match"] = f'"v{version}"'
    content = None
    if body is not None:
        content, headers["Content-Type"] = _encoded(body), kind
    return Call(method, path, read, content=content, headers=headers, versions=versions, instead=instead)


def _noted(what: str, customer_ids: Sequence[int]) -> Call[None]:
    body = {"ids": [int(each) for each in customer_ids]}
    return write("POST", f"{_PATH}duplicates/{what}", body, lambda _: None, key=None)


def _pair(found: Any) -> DuplicatePair:
    one, other = (_customer_of(each) for each in found["customers"])
    return DuplicatePair((one, other), found["score"], tuple(found["reasons"]), bool(found["dismissed"]))


def _customer(response: httpx.Response) -> Customer:
    return _customer_of(json_of(response))


def _customer_of(found: Any) -> Customer:
    try:
        return Customer.of(found)
    except (LookupError, TypeError, ValueError) as exc:
        error = ApiError("the server answered, but not with a customer")
        error.fix = URL_FIX
        raise error from exc


def _page(response: httpx.Response) -> Page:
    found = json_of(response)
    return Page(
        tuple(_customer_of(each) for each in found["results"]),
        _cursor_of(found["next"]),
        found.get("count"),
        bool(found.get("count_estimated")),
    )


def _path(customer_id: int) -> str:
    return f"{_PATH}{int(customer_id)}/"


def _merge(others: Mapping[int, int | None], fields: Mapping[str, Any] | None) -> dict[str, Any]:
    named = [{"id": int(each), "version": version} for each, version in others.items()]
    return {"from": named, "fields": dict(fields or {})}


def _encoded(body: Any) -> bytes:
    try:
        try:
            return json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return json.dumps(body).encode()  # half a character, which the server refuses by name
    except ValueError as exc:
        raise Invalid(f"this is no _JSON: {exc}") from exc


def _cursor_of(link: str | None) -> str | None:
    """The cursor of a link to a neighbour. Its path is the server's own, which a proxy may have changed."""
    return httpx.URL(link).params.get("cursor") if link else None
