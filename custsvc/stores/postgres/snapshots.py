"""Snapshots of transactions as PostgreSQL writes them, `xmin:xmax:xip,…`: what several of them see in common.

A transaction is visible in a snapshot if its number is below `xmax` and not in `xip`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

BEGINNING: Final = "3:3:"
"""A snapshot before every transaction: everything is new."""


class Cursor(NamedTuple):
    """The sent events: all visible in `prev`, and in the window up to `target` all up to `last_seq`."""

    prev: str
    target: str | None
    last_seq: int


class _Snapshot(NamedTuple):
    xmax: int
    xip: frozenset[int]

    def __str__(self) -> str:
        running = sorted(self.xip)
        return f"{running[0] if running else self.xmax}:{self.xmax}:{','.join(map(str, running))}"


def _read(text: str) -> _Snapshot:
    _, xmax, xip = text.split(":")
    return _Snapshot(int(xmax), frozenset(map(int, xip.split(","))) if xip else frozenset())


def common(snapshots: Sequence[str]) -> str:
    """The snapshot in which exactly those transactions are visible that are visible in all of these."""
    read = [_read(each) for each in snapshots]
    xmax = min(each.xmax for each in read)
    return str(_Snapshot(xmax, frozenset(x for each in read for x in each.xip if x < xmax)))


def covers(one: str, other: str) -> bool:
    """Whether every transaction that is visible in `other` is visible in `one`."""
    a, b = _read(one), _read(other)
    return b.xmax <= a.xmax and all(x in b.xip for x in a.xip if x < b.xmax)


def joined(cursors: Sequence[Cursor]) -> Cursor:
    """A cursor that is behind none of these: only events that all of them count as sent count as sent.

    Cursors of one window join exactly; of those of several windows, some events count as not sent.
    """
    prev = common([each.prev for each in cursors])
    partly = [each.last_seq for each in cursors if each.target is not None]
    if not partly:
        return Cursor(prev, None, 0)
    return Cursor(prev, common([each.target or each.prev for each in cursors]), min(partly))


def is_ahead(one: Cursor, other: Cursor) -> bool:
    """Whether `one` certainly counts as sent whatever `other` does."""
    if not covers(one.prev, other.prev):
        return False
    if other.target is None or covers(one.prev, other.target):
        return True
    return one.target is not None and covers(one.target, other.target) and one.last_seq >= other.last_seq
