"""How long lists and searches take on a database of many customers, by the store alone, without HTTP.

Usage: python benchmarks/lists.py postgres|mongo ADDRESS
It only reads; `custsvc seed 1000000` makes a database for it. Searches are counted as the API counts them.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from custsvc.config import Settings
from custsvc.domain.search import asked
from custsvc.ports.customers import CustomerFilter, CustomerQuery, CustomerStore, SortField
from custsvc.stores import open_store

_ROUNDS = 15
SEARCHES = (
    *("smith", "ada smith", "soren", "obrien", "O'Brien", "smith-jones", "jeanluc", "太郎", "emile zola"),
    *("7946 0000", "555 123", "4567", "ada.smith@example.com", "nobody", "a", "sm"),
)
BEGINNINGS = ("émile", "Ada", "ada smith", "Zz")


def main(backend: str, address: str) -> None:
    """Write a line for each list: the median and the slowest of its rounds, in milliseconds."""
    with open_store(Settings(backend=backend, **{f"{backend}_url": address})) as store:
        medians = []
        for what, query in _lists(store.customers):
            read = partial(_page, store.customers, query)
            times = sorted(map(_milliseconds, [read] * _ROUNDS))
            medians.append(statistics.median(times))
            _tell(what, medians[-1], times[-1])
        _tell("the median of all, and the slowest", statistics.median(medians), max(medians))


def _lists(store: CustomerStore) -> Iterator[tuple[str, CustomerQuery]]:
    sorts: tuple[SortField, ...] = ("id", "name")
    for sort in sorts:
        for text in SEARCHES:
            yield f"q={text} by {sort}", CustomerQuery(filter=CustomerFilter().asking(asked(text)), sort=sort)
        for text in BEGINNINGS:
            where = CustomerFilter(name_prefix=text)
            yield f"name__startswith={text} by {sort}", CustomerQuery(filter=where, sort=sort)
    by_name = CustomerQuery(sort="name")
    yield "by name", by_name
    yield "by name, descending", replace(by_name, descending=True)
    # As deep as thousands of pages, without turning each of them.
    middle = store.find(CustomerQuery(limit=1, filter=CustomerFilter(name_prefix="m"), sort="name")).last
    yield "by name, deep", replace(by_name, after=middle)


def _page(store: CustomerStore, query: CustomerQuery) -> None:
    store.find(query)
    if query.filter.words or query.filter.phrases:
        store.count_if_cheap(query.filter)


def _tell(what: str, median: float, slowest: float) -> None:
    sys.stdout.write(f"{what:44} {median:8.1f} {slowest:8.1f}\n")


def _milliseconds(read: Callable[[], object]) -> float:
    started = time.perf_counter()
    read()
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    main(*sys.argv[1:])
