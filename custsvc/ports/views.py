"""Saved views as a database keeps them: lists of customers that somebody gave a name."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final, Protocol

OWN_MAX: Final = 50
"""The most views of one owner."""
SHARED_SHOWN: Final = 200
"""The most shared views of other owners that are shown to somebody."""


@dataclass(frozen=True, slots=True)
class SavedView:
    """A list of customers under a name: the query of its address, with search, filters, sort and columns.

    `id` is random and part of its link. `owner` is a session's subject, as `user:ann`; `made_by` is the name
    to show. A shared view is open to all who may see the list, another one only to its owner.
    """

    id: str
    owner: str
    made_by: str
    name: str
    query: str
    shared: bool
    changed_on: dt.datetime


class Views(Protocol):
    """The saved views of a system of record. A name is unique among the views of its owner."""

    def add(self, view: SavedView) -> None:
        """Store a view. Raises Conflict if the name or id is taken, or the owner has OWN_MAX views.

        Requests at the same moment may exceed that number, each by one.
        """

    def find(self, view_id: str) -> SavedView | None:
        """The view with this id, of any owner."""

    def seen_by(self, owner: str) -> list[SavedView]:
        """The views of an owner, then those that others share, at most SHARED_SHOWN; both by name."""

    def replace(self, view: SavedView) -> bool:
        """Give the view of this id and owner this name, query and sharing; False if there is none.

        Raises Conflict if its owner has another view of the name.
        """

    def remove(self, view_id: str) -> bool:
        """Delete a view; False if there is none."""

    def leave(self, owner: str) -> None:
        """Delete the views that an owner did not share. The shared ones stay, and belong to nobody."""
