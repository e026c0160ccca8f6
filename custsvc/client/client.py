"""The client: each method is one call of the API, sent until it is answered."""

from __future__ import annotations

import datetime as dt
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, Unpack

import httpx

from .. import __version__
from ..errors import ConfigurationError
from .errors import ApiError, Invalid, NotPermitted, Refused
from .models import Customer, Duplicate, Event, Filters, MergePreview, Operation, Page, Result, parameters_of
from .positions import Positions
from .retry import IDEMPOTENCY_KEY, Calls, Retry, json_of
from .stream import EventStream

_PATH: Final = "/api/customers/"
_JSON: Final = "application/json"
_MERGE_PATCH: Final = "application/merge-patch+json"
# A copy waits no longer for what it has not got yet; beyond that it is asked again.
_COPY_WAITS: Final = "wait=5"
_PAGE: Final = 200
_RESULT: Final = ("status", "id", "version", "error")
_ETAG: Final = re.compile(r'"v(\d+)')


class Client:
    """Customers over the API at `url`, with an API key where the server asks for one.

    Every call is repeated until it is answered, for `retry.within` seconds at most; a write is done once,
    however often it was sent. `copy` is the address of a server that serves a copy (`serve --read-only`):
    reads go there, and see all that this client wrote. Use it in a `with` block, or close it. Several threads
    may share one.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        copy: str | None = None,
        retry: Retry | None = None,
        positions: Positions | None = None,
        verify: Any = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`verify` is httpx's: False, or an `ssl.SSLContext` for a certificate of your own.

        Raises ConfigurationError for an address or a key that cannot be one.
        """
        self._headers = _headers(key)
        self.retry = retry or Retry()
        self.positions = positions or Positions()
        self._opened = [
            httpx.Client(base_url=_address(each), headers=self._headers, verify=verify, transport=transport)
            for each in (url, *([copy] if copy else []))
        ]
        self._calls = Calls(self._opened[0], self.retry)
        self._reads = Calls(self._opened[-1], self.retry)
        self._of_copy = copy is not None

    @classmethod
    def of_app(cls, app: Callable[..., Any], *, retry: Retry | None = None) -> Self:
        """A client of a WSGI application in this process."""
        return cls("http://localhost", retry=retry, transport=httpx.WSGITransport(app))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        for each in self._opened:
            each.close()

    def __repr__(self) -> str:
        return f"Client({self._calls.address!r})"

    # -- reading -------------------------------------------------------------------------------------------

    def get(self, customer_id: int) -> Customer:
        """The customer. Raises NotFound, or Deleted for one that can be restored."""
        return _customer(self._read(_path(customer_id), position=self.positions.of(customer_id)))

    def at(self, customer_id: int, time: dt.datetime) -> Customer:
        """The customer as it was at a time, deleted or not. Raises NotFound where it came later."""
        return _customer(self._history(customer_id, {"at": time.isoformat()}))

    def find(self, **filters: Unpack[Filters]) -> Iterator[Customer]:
        """All customers that a list holds, page by page as they are asked for. See `Filters`."""
        cursor = None
        while True:
            page = self.page(cursor, limit=_PAGE, count="none", **filters)
            yield from page.customers
            cursor = page.next
            if cursor is None:
                return

    def page(
        self,
        cursor: str | None = None,
        *,
        limit: int = 50,
        count: str | None = None,
        **filters: Unpack[Filters],
    ) -> Page:
        """One page of a list: the first, or that of a cursor, which goes with the same filters only.

        `count` is exact, estimated or none; without it the first page counts where that is cheap.
        """
        asked = parameters_of(filters) | {"limit": str(limit)}
        asked |= {"cursor": cursor} if cursor else {}
        asked |= {"count": count} if count else {}
        found = self._read(_PATH, asked, position=self.positions.text)
        return Page(
            tuple(_customer(each) for each in found["results"]),
            _cursor_of(found["next"]),
            found.get("count"),
            bool(found.get("count_estimated")),
        )

    def count(self, **filters: Unpack[Filters]) -> int:
        """How many customers a list holds, exactly."""
        return self.page(limit=1, count="exact", **filters).count or 0

    def history(self, customer_id: int) -> Iterator[Event]:
        """Every change of a customer, the newest first. Raises NotFound at the first of them."""
        asked: dict[str, str] = {"limit": str(_PAGE)}
        while True:
            found = self._history(customer_id, asked)
            yield from (Event.of(each) for each in found["results"])
            cursor = _cursor_of(found["next"])
            if cursor is None:
                return
            asked = {**asked, "cursor": cursor}

    def duplicates(self, customer_id: int, *, limit: int = 50) -> list[Duplicate]:
        """Customers that are likely this one, the likeliest first, without the pairs that were dismissed."""
        # A copy does not know what was dismissed.
        found = self._of_source(_path(customer_id) + "duplicates", {"limit": str(limit)})["results"]
        return [
            Duplicate(_customer(each["customer"]), each["score"], tuple(each["reasons"])) for each in found
        ]

    # -- writing -------------------------------------------------------------------------------------------
    #
    # `version` guards a write: it happens only at that version, else VersionMismatch. `key` is the call's
    # idempotency key: with one of your own the call can be repeated later, in another process too, and within
    # 24 hours it is not done twice.

    def create(
        self,
        name: str,
        *,
        email: str | None = None,
        phone: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> Customer:
        """Make a customer. Raises Invalid, which names what is wrong with each field."""
        fields = {"name": name, "email": email, "phone": phone, "metadata": dict(metadata or {})}
        return _customer(self._write("POST", _PATH, fields, key=key))

    def update(
        self,
        customer_id: int,
        changes: Mapping[str, Any],
        *,
        version: int | None = None,
        key: str | None = None,
    ) -> Customer:
        """Change some fields. None clears a field; metadata is merged key by key, None removes a key."""
        return _customer(
            self._write("PATCH", _path(customer_id), changes, version=version, key=key, kind=_MERGE_PATCH)
        )

    def replace(
        self,
        customer_id: int,
        fields: Mapping[str, Any],
        *,
        version: int | None = None,
        key: str | None = None,
    ) -> Customer:
        """Give a customer these fields and no others; what is left out is cleared."""
        return _customer(self._write("PUT", _path(customer_id), fields, version=version, key=key))

    def delete(self, customer_id: int, *, version: int | None = None, key: str | None = None) -> int:
        """Mark a customer deleted; one that is stays as it is. Returns its version now."""
        response = self._send("DELETE", _path(customer_id), None, version=version, key=key)
        found = _ETAG.search(response.headers.get("etag", ""))
        return int(found[1]) if found else 0

    def restore(self, customer_id: int, *, version: int | None = None, key: str | None = None) -> Customer:
        """Bring a deleted customer back as it was; a live one stays as it is."""
        return _customer(self._write("POST", _path(customer_id) + "restore", None, version=version, key=key))

    def revert(
        self, customer_id: int, to: int, *, version: int | None = None, key: str | None = None
    ) -> Customer:
        """Give a customer the fields that it had at the version `to`, as a new version."""
        path = _path(customer_id) + "revert"
        return _customer(self._write("POST", path, {"version": to}, version=version, key=key))

    def erase(self, customer_id: int, *, version: int | None = None, key: str | None = None) -> Customer:
        """Blank a customer and its history, for good. Needs a key of the role admin."""
        return _customer(self._write("POST", _path(customer_id) + "erase", None, version=version, key=key))

    def merge(
        self,
        customer_id: int,
        others: Mapping[int, int | None],
        fields: Mapping[str, Any] | None = None,
        *,
        version: int | None = None,
        key: str | None = None,
    ) -> Customer:
        """Make the others part of this customer, all in one step; they then raise Merged.

        `others` are their ids, each with the version it must be at (None: any); `fields` a patch of what the
        customer becomes. Raises VersionMismatch.
        """
        path = _path(customer_id) + "merge"
        return _customer(self._write("POST", path, _merge(others, fields), version=version, key=key))

    def preview_merge(
        self, customer_id: int, others: Mapping[int, int | None], fields: Mapping[str, Any] | None = None
    ) -> MergePreview:
        """What `merge` would do. Nothing is changed."""
        path = _path(customer_id) + "merge?dry_run=true"
        found = self._write("POST", path, _merge(others, fields), key=None)
        return MergePreview(_customer(found["customer"]), found["took"])

    def unmerge(self, customer_id: int, *, version: int | None = None, key: str | None = None) -> Customer:
        """Take back the newest merge of this customer, but not what was changed since."""
        path = _path(customer_id) + "unmerge"
        return _customer(self._write("POST", path, None, version=version, key=key))

    def may_write(self) -> bool:
        """Whether the key may change customers here.

        Asks by a batch without operations, which is refused before anything is done: for its emptiness to who
        may write, for the role to who may not. Raises NotPermitted for a key that is not valid.
        """
        try:
            self._send("POST", _PATH + "batch", {"operations": []}, key=None)
        except NotPermitted as exc:
            if exc.status == 401:  # not a valid key at all
                raise
            return False
        except Refused as exc:
            return exc.status != 405  # a copy, which only shows
        return True

    def batch(
        self, operations: Sequence[Operation], *, atomic: bool = False, key: str | None = None
    ) -> list[Result]:
        """Do up to 1,000 operations in one step, each for itself, or with `atomic` all or none.

        Returns one result for each, in their order.
        """
        body = {"atomic": atomic, "operations": list(operations)}
        found = self._write("POST", _PATH + "batch", body, key=key)
        done = [
            Result(each["status"], each["id"], each["version"], each["error"]) for each in found["results"]
        ]
        self.positions.note({each.id: each.version for each in done if each.id and each.version})
        return done

    # -- events --------------------------------------------------------------------------------------------

    def events(
        self,
        after: str | None = None,
        *,
        from_beginning: bool = False,
        customer: int | None = None,
        ops: Sequence[str] = (),
        within: float | None = None,
    ) -> EventStream:
        """Every change as it happens, for ever: an iterator that connects again where it was cut off.

        `after` is the `position` of the last event that was worked on; without it the stream begins at the
        end, or with `from_beginning` at the oldest event that there is. `within`: give up (Unavailable) after
        so many seconds without a connection. An event may come twice; `Latest` drops repeats.
        """
        asked = {"from": "beginning"} if from_beginning else {}
        asked |= {"customer": str(customer)} if customer is not None else {}
        asked |= {"op": ",".join(ops)} if ops else {}
        return EventStream(self._opened[0], self.retry, asked, after, within)

    # -- calls ---------------------------------------------------------------------------------------------

    def _read(self, path: str, asked: Mapping[str, str] | None = None, *, position: str = "") -> Any:
        headers = {"Accept": _JSON}
        if self._of_copy and position:
            headers |= {"X-Custsvc-Min-Position": position, "Prefer": _COPY_WAITS}
        return json_of(self._reads("GET", path, params=asked, headers=headers))

    def _history(self, customer_id: int, asked: Mapping[str, str]) -> Any:
        # A copy keeps no history.
        return self._of_source(_path(customer_id) + "history", asked)

    def _of_source(self, path: str, asked: Mapping[str, str]) -> Any:
        return json_of(self._calls("GET", path, params=asked, headers={"Accept": _JSON}))

    def _write(self, method: str, path: str, body: Any, **options: Any) -> Any:
        return json_of(self._send(method, path, body, **options))

    def _send(
        self,
        method: str,
        path: str,
        body: Any,
        *,
        version: int | None = None,
        key: str | None,
        kind: str = _JSON,
    ) -> httpx.Response:
        headers = {"Accept": _JSON, IDEMPOTENCY_KEY: key or secrets.token_hex(16)}
        if version is not None:
            headers["If-Match"] = f'"v{version}"'
        content = None
        if body is not None:
            content, headers["Content-Type"] = _encoded(body), kind
        response = self._calls(method, path, content=content, headers=headers)
        self.positions.add(response.headers.get("x-custsvc-position", ""))
        return response


def _customer(found: Any) -> Customer:
    try:
        return Customer.of(found)
    except (LookupError, TypeError, ValueError) as exc:
        error = ApiError("the server answered, but not with a customer")
        error.fix = _URL_FIX
        raise error from exc


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
        raise Invalid(f"this is no JSON: {exc}") from exc


def _cursor_of(link: str | None) -> str | None:
    """The cursor of a link to a neighbour. Its path is the server's own, which a proxy may have changed."""
    return httpx.URL(link).params.get("cursor") if link else None


def _address(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text.strip())
    except httpx.InvalidURL as exc:
        raise ConfigurationError(f"the API's address cannot be read: {exc}", fix=_URL_FIX) from exc
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigurationError(f"{text!r} is not the address of an API", fix=_URL_FIX)
    return url


_URL_FIX: Final = "give it as http://localhost:8000 or https://customers.example.org"


def _headers(key: str | None) -> dict[str, str]:
    headers = {"User-Agent": f"custsvc-client/{__version__}"}
    if key is not None:
        key = key.strip()
        if not key.isascii() or not key.isprintable() or " " in key or not key:
            raise ConfigurationError("the API key is empty, or holds what no key holds", fix=_KEY_FIX)
        headers["Authorization"] = f"Bearer {key}"
    return headers


_KEY_FIX: Final = "give it as `custsvc keys create` printed it: csk_…"
