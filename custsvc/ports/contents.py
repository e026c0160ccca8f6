"""The port of contents: all customers of a database, source or copy, read in ranges for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol


class Row(NamedTuple):
    """A customer as `verify` sees it."""

    id: int
    version: int
    deleted: bool
    doc: bytes


class Digest(NamedTuple):
    """The digest of a range of customers: their number, the last id, and a hash of all their content.

    Both backends hash the same bytes, those of the columns and of the document.
    """

    customers: int
    last_id: int | None
    hash: str


class Contents(Protocol):
    """All customers of a database, source or copy, as `verify` compares and repairs them."""

    def scan(self, after_id: int, limit: int) -> list[Row]:
        """Customers in the order of id, deleted ones too, after `after_id`."""

    def rows(self, ids: Sequence[int]) -> list[Row]:
        """These customers, in the order of id; those that do not exist are left out."""

    def digest(self, after_id: int, *, limit: int | None = None, last_id: int | None = None) -> Digest:
        """The digest of the customers after `after_id`: this many, or those up to `last_id`."""

    def columns(self, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        """The versions, and what stands beside the documents to find by, in a form both backends share."""

    def overwrite(self, rows: Sequence[Row]) -> int:
        """Let the next event of these customers replace them, whatever version they claim to have.

        Only customers that are still exactly as given; returns how many were.
        """

    def remove(self, rows: Sequence[Row]) -> int:
        """Remove these customers if they are still exactly as given; return how many were."""
