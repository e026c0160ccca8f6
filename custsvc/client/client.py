"""The client: each method is one call of the API, sent until it is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

import httpx

from . import calls
from .calls import Call
from .errors import ApiError
from .models import Customer, Dismissed, DuplicatePair, Event, Filters
from .positions import Positions
from .retry import Retry
from .sending import Base, described_as
from .stream import EventStream, asked_for

P = ParamSpec("P")
T = TypeVar("T")


def _method(make: Callable[P, Call[T]]) -> Callable[Concatenate[Client, P], T]:
    """A method that sends the call which `make` makes, and returns its result."""

    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(make(*args, **kwargs))

    return described_as(method, make)


class Client(Base):
    """Customers over the API at `url`, with an API key where the server asks for one.

    Every call is repeated until it is answered, for `retry.within` seconds at most; a write is done once,
    however often it was sent. `copy` is the address of a server that serves a copy (`serve --read-only`):
    reads go there, and see all that this client wrote. Use it in a `with` block, or close it. Several threads
    may share one. `AsyncClient` is the same for asyncio and trio.
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
        super().__init__(url, key, copy, retry, positions)
        self._opened = [
            httpx.Client(base_url=each, headers=self.headers, verify=verify, transport=transport)
            for each in self.addresses
        ]

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

    get = _method(calls.get)
    at = _method(calls.at)
    page = _method(calls.page)
    count = _method(calls.count)
    duplicates = _method(calls.duplicates)
    create = _method(calls.create)
    update = _method(calls.update)
    replace = _method(calls.replace)
    delete = _method(calls.delete)
    restore = _method(calls.restore)
    revert = _method(calls.revert)
    erase = _method(calls.erase)
    merge = _method(calls.merge)
    preview_merge = _method(calls.preview_merge)
    unmerge = _method(calls.unmerge)
    dismiss = _method(calls.dismiss)
    undismiss = _method(calls.undismiss)
    batch = _method(calls.batch)
    may_write = _method(calls.may_write)

    def find(self, **filters: Unpack[Filters]) -> Iterator[Customer]:
        """All customers that a list holds, page by page as they are asked for. See `Filters`."""
        cursor = None
        while True:
            page = self.page(cursor, limit=calls.PAGE, count="none", **filters)
            yield from page.customers
            cursor = page.next
            if cursor is None:
                return

    def history(self, customer_id: int) -> Iterator[Event]:
        """Every change of a customer, the newest first. Raises NotFound at the first of them."""
        cursor = None
        while True:
            events, cursor = self.send(calls.events_of(customer_id, cursor))
            yield from events
            if cursor is None:
                return

    def duplicate_pairs(
        self, *, min_score: float | None = None, dismissed: Dismissed = "exclude"
    ) -> Iterator[DuplicatePair]:
        """All pairs of customers that are likely one, as they are found. It looks through all customers."""
        cursor = None
        while True:
            pairs, cursor = self.send(calls.pairs_of(cursor, min_score, dismissed))
            yield from pairs
            if cursor is None:
                return

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
        this many seconds without a connection. An event may come twice; `Latest` drops repeats.
        """
        asked = asked_for(from_beginning=from_beginning, customer=customer, ops=ops)
        return EventStream(self._opened[0], self.retry, asked, after, within)

    def send(self, call: Call[T]) -> T:
        """Send a call until it is answered. Raises ApiError; Unavailable when the time is up."""
        http, attempts = self._opened[self.place(call)], self.begun(call)
        try:
            while True:
                try:
                    response = http.send(attempts.request(http))
                except httpx.RequestError as exc:
                    pause = attempts.lost(exc)
                else:
                    if response.is_success:
                        return self.ended(call, response)
                    pause = attempts.refused(response)
                self.retry.sleep(pause)
        except ApiError as exc:
            if call.instead is None:
                raise
            return call.instead(exc)
