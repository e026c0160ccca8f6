"""Marks acknowledged batches as sent, in another thread, while the relay reads and sends on.

Batches are marked in their order, and those that come while one is being marked are marked together. If
marking fails, the events of all these batches are read and sent again; consumers drop repeats by version.
"""

from __future__ import annotations

from concurrent.futures import Executor, Future

from ..ports.outbox import Batch, Outbox
from ..runtime import crash


class Marks:
    """The batches that are on Kafka, but not yet marked so in their outbox."""

    def __init__(self, outbox: Outbox, aside: Executor) -> None:
        self._outbox = outbox
        self._aside = aside
        self._marking: Future[None] | None = None
        # What is being marked, and what waits until that is done.
        self._current = Batch()
        self._waiting = Batch()

    @property
    def unmarked(self) -> Batch:
        """All these batches as one, for `Outbox.ahead`."""
        return self._together(self._current, self._waiting)

    def add(self, batch: Batch) -> None:
        """Mark an acknowledged batch once those before it are marked. Raises what that has raised."""
        self._waiting = self._together(self._waiting, batch)
        if self._marking is None or self._marking.done():
            self._next()

    def ease(self, most: int) -> None:
        """Wait until no more than so many events are not marked, or one batch."""
        while self._marking is not None and len(self.unmarked.events) > most:
            self._next()

    def settle(self) -> None:
        """Wait until all is marked."""
        while self._marking is not None:
            self._next()

    def _next(self) -> None:
        marking, self._marking = self._marking, None
        if marking is not None:
            marking.result()
        self._current, self._waiting = self._waiting, Batch()
        if self._current.events:
            self._marking = self._aside.submit(self._done, self._current)

    def _done(self, batch: Batch) -> None:
        self._outbox.done(batch)
        crash.point("relay.saved")

    def _together(self, first: Batch, second: Batch) -> Batch:
        if not first.events:
            return second
        return self._outbox.together(first, second) if second.events else first
