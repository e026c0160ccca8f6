"""The client for asyncio and trio: the calls of `Client`, awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
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
from .stream import AsyncEventStream, asked_for

P = ParamSpec("P")
T = TypeVar("T")


def _method(make: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """A method that sends the call which `make` makes, and returns its result."""

    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.send(make(*args, **kwargs))

    return described_as(method, make)


class AsyncClient(Base):
    """`Client` for asyncio and trio: the same calls with the same promises, awaited.

    `find`, `history` and `events` are for `async for`. Use it in an `async with` block, or await `aclose`.
    Several tasks may share one. A task that is cancelled may have sent its write: repeated
    with the same `key`, it is done once.
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
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """As of `Client`. Raises ConfigurationError."""
        super().__init__(url, key, copy, retry, positions)
        self._opened = [
            httpx.AsyncClient(base_url=each, headers=self.headers, verify=verify, transport=transport)
            for each in self.addresses
        ]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        for each in self._opened:
            await each.aclose()

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

    async def find(self, **filters: Unpack[Filters]) -> AsyncIterator[Customer]:
        """All customers that a list holds, page by page as they are asked for. See `Filters`."""
        cursor = None
        while True:
            page = await self.page(cursor, limit=calls.PAGE, count="none", **filters)
            for each in page.customers:
                yield each
            cursor = page.next
            if cursor is None:
                return

    async def history(self, customer_id: int) -> AsyncIterator[Event]:
        """Every change of a customer, the newest first. Raises NotFound at the first of them."""
        cursor = None
        while True:
            events, cursor = await self.send(calls.events_of(customer_id, cursor))
            for each in events:
                yield each
            if cursor is None:
                return

    async def duplicate_pairs(
        self, *, min_score: float | None = None, dismissed: Dismissed = "exclude"
    ) -> AsyncIterator[DuplicatePair]:
        """All pairs of customers that are likely one, as they are found. It looks through all customers."""
        cursor = None
        while True:
            pairs, cursor = await self.send(calls.pairs_of(cursor, min_score, dismissed))
            for each in pairs:
                yield each
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
    ) -> AsyncEventStream:
        """Every change as it happens, for ever, for `async for`. See `Client.events`."""
        asked = asked_for(from_beginning=from_beginning, customer=customer, ops=ops)
        return AsyncEventStream(self._opened[0], self.retry, asked, after, within)

    async def send(self, call: Call[T]) -> T:
        """Send a call until it is answered. Raises ApiError; Unavailable when the time is up."""
        http, attempts = self._opened[self.place(call)], self.begun(call)
        try:
            while True:
                try:
                    response = await http.send(attempts.request(http))
                except httpx.RequestError as exc:
                    pause = attempts.lost(exc)
                else:
                    if response.is_success:
                        return self.ended(call, response)
                    pause = attempts.refused(response)
                await self.retry.async_sleep(pause)
        except ApiError as exc:
            if call.instead is None:
                raise
            return call.instead(exc)
