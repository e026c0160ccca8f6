"""For consumers: drops events that came before, or are older than what was worked on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, MutableMapping

from .models import Event


class Latest:
    """Remembers the highest version of each customer that was worked on, and lets only higher ones through.

    An event counts as worked on when the next one is asked for: one whose work raised comes again. `versions`
    is where it remembers, such as a table of your own; without it the memory holds the `most` customers that
    changed last, and a repeat of an older one goes through again.

    >>> for event in Latest()(client.events(after=saved)):
    ...     work_on(event)
    """

    def __init__(self, versions: MutableMapping[int, int] | None = None, *, most: int = 100_000) -> None:
        self._versions: MutableMapping[int, int] = _Newest(most) if versions is None else versions

    def __call__(self, events: Iterable[Event]) -> Iterator[Event]:
        """The events that are news."""
        for event in events:
            if self.is_news(event):
                yield event
                self.done(event)

    async def of(self, events: AsyncIterable[Event]) -> AsyncIterator[Event]:
        """The events of an asynchronous stream that are news."""
        async for event in events:
            if self.is_news(event):
                yield event
                self.done(event)

    def is_news(self, event: Event) -> bool:
        """Whether this is a higher version of its customer than any that was worked on."""
        return event.version > self._versions.get(event.customer_id, 0)

    def done(self, event: Event) -> None:
        """Remember that this event was worked on. Call it by the transaction of the work, to be exact."""
        if self.is_news(event):
            self._versions[event.customer_id] = event.version


class _Newest(OrderedDict[int, int]):
    """A dictionary of the entries that were set last."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: int, value: int) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self._most:
            self.popitem(last=False)
