"""The port of a copy, to which events are applied; it keeps its positions with its customers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from ..domain.received import ReceivedEvent
from .contents import Contents


class Applied(NamedTuple):
    """The result of a batch: customers written, and those that the copy had as new or newer."""

    written: int
    stale: int


Positions = Mapping[int, int]
"""Per partition, the offset of the next record to read."""


class Replica(Contents, Protocol):
    """A copy of the customers, maintained by events. It holds its positions."""

    def positions(self, topic: str) -> dict[int, int]:
        """The next offset to read, for each partition that was ever read."""

    def begin(self, topic: str) -> dict[int, int]:
        """`positions`, for a process that applies from there: its batches apply to the copy as it is now.

        Raises TemporaryError while the copy is held.
        """

    def apply(self, events: Sequence[ReceivedEvent], topic: str, positions: Positions) -> Applied:
        """Bring the copy to these events' versions and positions.

        Idempotent by version: any order, any repetition, from several processes at once ends at the
        highest version of each customer. Positions never go back, and never stand before their events'
        effects are durable. Raises Superseded if the copy was swapped or held since `begin`.
        """

    def applying(self, events: Sequence[ReceivedEvent]) -> Callable[[str, Positions], Applied]:
        """`apply` in two steps: this encodes the events, and the returned function writes them.

        That function holds no events, may run in another thread, and may be called again after a failure.
        """

    def rebuilding(self) -> AbstractContextManager[bool]:
        """Take the lock on filling a shadow of this copy within the block; yields whether it is ours."""

    def shadow(self) -> Replica:
        """A second copy beside this one, with its own positions; made if missing, else as it was left.

        Readers do not see it; this copy swaps it in or drops it.
        """

    def drop_shadow(self) -> None:
        """Delete the shadow."""

    def hold(self, seconds: float) -> None:
        """Stop all processes from applying to this copy until it is swapped, for at most these seconds."""

    def swap(self, topic: str, *, anyway: bool = False) -> bool:
        """Replace this copy, which is held, by the shadow, atomically for every reader and writer.

        The shadow's positions replace the copy's. False if this copy is further than the shadow: a swap would
        revert customers. `anyway` ignores this copy's positions. A swap interrupted by a crash is either not
        done, or finished by the next process that begins.
        """
