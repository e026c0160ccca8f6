"""Which rows of an import would add a customer that is likely there already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from ..domain.customers import Fields
from ..service.duplicates import DuplicateFinder
from .plan import Planned

LOOKED_AT: Final = 2000
"""The most rows of a file that are compared with the customers: the first ones that would add somebody."""
_AT_ONCE: Final = 100
# The most customers named for a row.
_NAMED: Final = 5


class Likely:
    """Compares the rows of one dry run that would add a customer, the first `LOOKED_AT` of them."""

    def __init__(self, finder: DuplicateFinder) -> None:
        self._finder = finder
        self._looked_at = 0
        self._found = 0

    def marked(self, rows: Sequence[Planned]) -> list[Planned]:
        """The rows, those that are likely stored customers with the ids of these."""
        new = [
            (place, row.fields)
            for place, row in enumerate(rows)
            if row.action == "create" and row.fields is not None
        ][: LOOKED_AT - self._looked_at]
        marked = list(rows)
        for place, ids in self._ids(new):
            marked[place] = replace(rows[place], duplicates=ids)
        return marked

    def _ids(self, new: Sequence[tuple[int, Fields]]) -> Iterator[tuple[int, tuple[int, ...]]]:
        for start in range(0, len(new), _AT_ONCE):
            some = new[start : start + _AT_ONCE]
            found = self._finder.like_each([fields for _, fields in some])
            self._looked_at += len(some)
            for (place, _), duplicates in zip(some, found, strict=True):
                if duplicates:
                    self._found += 1
                    yield place, tuple(each.id for each in duplicates[:_NAMED])

    def as_dict(self) -> dict[str, Any]:
        return {"rows": self._found, "looked_at": self._looked_at}
