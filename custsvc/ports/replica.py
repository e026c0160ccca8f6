"""The port of a copy, to which events are applied; it keeps its positions with its customers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from ..domain.events import ReceivedEvent
from .contents import Contents


class Applied(NamedTuple):
    """What a batch did to the copy: customers written, and those it already had as new or newer."""

    written: int
    stale: int


Positions = Mapping[int, int]
"""Per partition, the offset of the next record to read."""


class Replica(Contents, Protocol):
    """A copy of the customers, kept by events. It knows how far it is."""

    def positions(self, topic: str) -> dict[int, int]:
        """How far it is: the next offset to read, per partition that was ever read."""

    def begin(self, topic: str) -> dict[int, int]:
        """`positions`, for one who goes on from there: what it applies is for the copy as it is now.

        Raises TemporaryError while the copy is held.
        """

    def apply(self, events: Sequence[ReceivedEvent], topic: str, positions: Positions) -> Applied:
        """Bring the copy to these events' versions and positions.

        Idempotent by version: any order, any repetition, from several processes at once ends at the
        highest version of each customer. Positions never go back, and never stand before their events'
        effects are durable. Raises Superseded where the copy was swapped, or is held, since one began.
        """

    def applying(self, events: Sequence[ReceivedEvent]) -> Callable[[str, Positions], Applied]:
        """`apply` in two steps: what needs no database is done now, and the call does the rest.

        It holds no event any more, may be called in another thread, and again where it failed.
        """

    def rebuilding(self) -> AbstractContextManager[bool]:
        """Whether nobody else fills a shadow of this copy, and nobody else can within the block."""

    def shadow(self) -> Replica:
        """A second copy beside this one, with positions of its own; made if it is not there, else as left.

        It takes no part in reading, and is swapped in or dropped by this one.
        """

    def drop_shadow(self) -> None:
        """Throw the shadow away."""

    def hold(self, seconds: float) -> None:
        """Let nobody who began to follow this copy apply to it until it is swapped, at most for so long."""

    def swap(self, topic: str, *, anyway: bool = False) -> bool:
        """Put the shadow in the place of this copy, which is held, at once for every reader and writer.

        Its positions come with it. False where this copy is further than the shadow: to swap would take
        customers back. With `anyway` it does not matter where this copy is. A swap that is cut off by a
        crash is either not done, or finished by whoever begins next.
        """
