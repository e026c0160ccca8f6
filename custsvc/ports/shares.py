"""Shares: the outbox divided among several leaders, each for the events of some of the customers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from .outbox import Outbox


class Share(NamedTuple):
    """Share `number` (from 0) of `of`. `has` says of each of these ids whether the customer belongs to it.

    `division` names how the customers are divided: the same text means the same customers in each share.
    """

    number: int
    of: int
    division: str
    has: Callable[[Sequence[int]], Sequence[bool]]


class Shares(Protocol):
    """The shares of an outbox. Who leads one excludes who leads the whole outbox, and the reverse."""

    def outbox(self, share: Share) -> Outbox:
        """The outbox of one share: `read`, `ahead` and `latest` give the events of its customers only.

        `lead` is False while another leads this share, or the whole outbox. `depth` and `adopt` are those of
        the whole outbox, which learns within a second what the shares have sent: until then it shows these
        events as not sent.
        """

    def join(self, shares: int) -> None:
        """End a division into so many shares: the whole outbox, or other shares, go on where they were.

        Only within `lead` of the whole outbox, and that lead reads nothing any more. Events that a share has
        sent may be read once more.
        """
