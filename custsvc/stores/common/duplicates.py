"""Look-ups of many keys at once: bounded as a whole, and shared out to the keys afterwards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from ...domain.fold import folded
from ...domain.phone import phone_terms
from ...ports.duplicates import Bearer, Key, Kind

Row = TypeVar("Row")
# Keys that a value is; it begins with the others.
_WHOLE: Final[tuple[Kind, ...]] = ("email", "word")


def read_bounded(
    texts: Sequence[str], limit: int, read: Callable[[Sequence[str], int], list[Row]]
) -> Iterator[Row]:
    """What `read(texts, most)` finds, `limit` for each text on average.

    If one key has so many bearers that those of others may be missing, each half is read separately.
    """
    most = limit * len(texts)
    rows = read(texts, most)
    if len(rows) < most or len(texts) == 1:
        yield from rows
        return
    half = len(texts) // 2
    for some in (texts[:half], texts[half:]):
        yield from read_bounded(some, limit, read)


def share_out(
    found: dict[Key, list[Bearer]],
    kind: Kind,
    rows: Iterable[tuple[Bearer, Iterable[str]]],
    texts: Collection[str],
    limit: int,
) -> None:
    """Add each bearer to those keys of `texts` that it has, by its values, up to `limit` to each.

    A bearer may come several times, found by several keys; it is added once.
    """
    wanted = set(texts)
    for bearer, values in {row[0].id: row for row in rows}.values():
        for text in wanted.intersection(values) if kind in _WHOLE else begun(wanted, values):
            met = found.setdefault(Key(kind, text), [])
            if len(met) < limit:
                met.append(bearer)


def begun(texts: Collection[str], values: Iterable[str]) -> set[str]:
    """Those of the texts that one of the values begins with."""
    lengths = {len(text) for text in texts}
    return {value[:length] for value in values for length in lengths}.intersection(texts)


def number_terms(bearer: Bearer) -> set[str]:
    """The terms of a customer's number."""
    return phone_terms(folded(bearer.phone)) if bearer.phone else set()
