"""Verify: proves that a copy holds exactly what its source holds, while both go on changing.

It compares ranges of ids by hashes of all bytes, which each database computes itself; it compares single
customers only in a range that differs. A customer that differs is only a suspect: the copy may be behind. So
verify looks at the suspects again after the pipeline has passed the moment at which they were seen. A
customer that then is still missing or has other content is a difference; one that the pipeline has not
reached within the time given is behind.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from ..domain.customers import format_time, same_json, utc_now
from ..errors import ConfigurationError, NotFound
from ..ports.contents import Contents, Digest, Row
from ..ports.facts import Fact, Facts
from ..ports.store import Store
from ..runtime.batches import batches

_RANGE = 5000
_POLL = 0.2

Kind = Literal["missing", "stale", "differs", "extra", "ahead"]


@dataclass(slots=True)
class Difference:
    """One customer that is wrong in the copy."""

    customer_id: int
    kind: Kind
    source_version: int | None
    copy_version: int | None
    fields: list[str]
    repaired: bool = False


@dataclass(slots=True)
class Report:
    """The result. `behind` are customers whose changes had not arrived by the pipeline yet."""

    compared: int = 0
    differences: list[Difference] = field(default_factory=list)
    behind: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def unrepaired(self) -> list[Difference]:
        return [difference for difference in self.differences if not difference.repaired]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Knows whether everything up to a moment has reached the copy.

    `published(seconds)`: whether every event older than that is on Kafka. `ends()`: the topic's end offsets.
    `positions()`: those of the copy.
    """

    published: Callable[[float], bool]
    ends: Callable[[], dict[int, int]]
    positions: Callable[[], dict[int, int]]


def verify(
    source: Contents,
    copy: Contents,
    pipeline: Pipeline,
    *,
    patience: float = 30.0,
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Compare all customers. `patience`: how many seconds the copy gets to catch up with the suspects."""
    started = time.monotonic()
    report = Report()
    suspects: dict[int, int] = {}
    for after, last, ours, theirs in _ranges(source, copy):
        report.compared += max(ours.customers, theirs.customers)
        if (ours.customers, ours.hash) != (theirs.customers, theirs.hash):
            suspects |= _suspects(source, copy, after, last)
        progress(ours.customers)
    if suspects:
        _settle(source, copy, pipeline, suspects, time.monotonic() + patience, report)
    report.seconds = time.monotonic() - started
    return report


def _ranges(source: Contents, copy: Contents) -> Iterator[tuple[int, int | None, Digest, Digest]]:
    """Ranges of the source's ids, the last one open-ended, with both digests.

    The source is a range ahead, so that both databases work at the same time.
    """
    with ThreadPoolExecutor(1) as pool:
        after = 0
        ahead = pool.submit(source.digest, after, limit=_RANGE)
        while (ours := ahead.result()).last_id is not None:
            ahead = pool.submit(source.digest, ours.last_id, limit=_RANGE)
            yield after, ours.last_id, ours, copy.digest(after, last_id=ours.last_id)
            after = ours.last_id
        yield after, None, ours, copy.digest(after)


def _suspects(source: Contents, copy: Contents, after: int, last: int | None) -> dict[int, int]:
    """The customers of a range that differ, and the source's version of each."""
    # Read the copy first: then a copy that is only behind never seems to be ahead.
    theirs = {row.id: row for row in _rows(copy, after, last)}
    ours = {row.id: row for row in _rows(source, after, last)}
    ids = [i for i in {**ours, **theirs} if ours.get(i) != theirs.get(i)]
    same = [i for i in ours if i in theirs and ours[i] == theirs[i]]
    return {i: ours[i].version if i in ours else 0 for i in ids + _misplaced(source, copy, same)}


def _rows(contents: Contents, after: int, last: int | None) -> Iterator[Row]:
    while rows := contents.scan(after, _RANGE):
        for row in rows:
            if last is not None and row.id > last:
                return
            yield row
        after = rows[-1].id


def _misplaced(source: Contents, copy: Contents, ids: Sequence[int]) -> list[int]:
    """The customers with equal documents but different columns (those by which they are found)."""
    found = []
    for some in batches(ids, _RANGE):
        ours, theirs = source.columns(some), copy.columns(some)
        found += [i for i in some if ours.get(i) != theirs.get(i)]
    return found


def _settle(
    source: Contents,
    copy: Contents,
    pipeline: Pipeline,
    suspects: dict[int, int],
    deadline: float,
    report: Report,
) -> None:
    """Look at the suspects repeatedly until each is certainly equal or different, or time is up."""
    seen_at = time.monotonic()
    ends: dict[int, int] | None = None
    while True:
        if ends is None and pipeline.published(time.monotonic() - seen_at):
            ends = pipeline.ends()
        passed = False
        if ends is not None:
            positions = pipeline.positions()
            passed = all(positions.get(part, 0) >= end for part, end in ends.items())
        suspects = _look_again(source, copy, suspects, passed=passed, report=report)
        if not suspects or time.monotonic() >= deadline:
            report.behind.extend(sorted(suspects))
            return
        time.sleep(_POLL)


def _look_again(
    source: Contents, copy: Contents, suspects: dict[int, int], *, passed: bool, report: Report
) -> dict[int, int]:
    """The suspects still undecided. `passed`: the copy has passed all events up to when they were seen."""
    left: dict[int, int] = {}
    for ids in batches(sorted(suspects), _RANGE):
        # Read the copy first: then a copy that seems to be ahead of its source really is.
        theirs = {row.id: row for row in copy.rows(ids)}
        ours = {row.id: row for row in source.rows(ids)}
        beside = _beside(source, copy, [i for i in ids if i in ours and ours[i] == theirs.get(i)])
        for customer_id in ids:
            a, b, least = ours.get(customer_id), theirs.get(customer_id), suspects[customer_id]
            if a == b:
                if names := beside.get(customer_id):
                    report.differences.append(_difference(customer_id, "differs", a, b, names))
                continue
            kind = _kind(a, b, least, passed=passed)
            if kind is None:
                left[customer_id] = least
            else:
                names = _fields(a.doc, b.doc) if a and b else []
                report.differences.append(_difference(customer_id, kind, a, b, names))
    return left


def _beside(source: Contents, copy: Contents, ids: Sequence[int]) -> dict[int, list[str]]:
    """The columns that differ, of customers with equal documents."""
    ours, theirs = source.columns(ids), copy.columns(ids)
    return {
        i: [f"{name} (column)" for name in a if a[name] != b[name]]
        for i in ids
        # Different versions were read at different moments: the earlier comparison is obsolete.
        if (a := ours.get(i)) and (b := theirs.get(i)) and a["version"] == b["version"] and a != b
    }


def _kind(a: Row | None, b: Row | None, least: int, *, passed: bool) -> Kind | None:
    if a is None:
        return "extra"
    if b is not None and b.version > a.version:
        return "ahead"
    if b is not None and b.version == a.version:
        return "differs"
    if not passed or (b is not None and b.version >= least):
        return None
    return "missing" if b is None else "stale"


def _difference(customer_id: int, kind: Kind, a: Row | None, b: Row | None, names: list[str]) -> Difference:
    return Difference(customer_id, kind, a.version if a else None, b.version if b else None, names)


def _fields(ours: bytes, theirs: bytes) -> list[str]:
    try:
        a, b = orjson.loads(ours), orjson.loads(theirs)
    except orjson.JSONDecodeError:
        return ["(the copy's document is not JSON)"]
    names = [name for name in {**a, **b} if name not in a or name not in b or not same_json(a[name], b[name])]
    return names or ["(the same values in other bytes)"]


# -- repair ------------------------------------------------------------------------------------------------


def repair(
    source: Contents,
    copy: Contents,
    report: Report,
    resend: Callable[[Sequence[int]], object],
    *,
    patience: float = 30.0,
) -> None:
    """Repair the differences: `resend` sends these customers to the copy again, by the usual pipeline.

    A row that only the copy has is removed. A row with the source's version or a higher one would not be
    replaced by an event, so it is marked for replacement. Both only if the row is unchanged since it was
    found. Marks the repaired differences in the report.
    """
    for some in batches(report.differences, _RANGE):
        ids = [difference.customer_id for difference in some]
        theirs = {row.id: row for row in copy.rows(ids)}
        ours = {row.id: row for row in source.rows(ids)}
        copy.remove([row for i, row in theirs.items() if i not in ours])
        copy.overwrite([row for i, row in theirs.items() if i in ours and row.version >= ours[i].version])
        resend([i for i in ids if i in ours])
        _await_repair(source, copy, some, time.monotonic() + patience)


def _await_repair(
    source: Contents, copy: Contents, differences: Sequence[Difference], deadline: float
) -> None:
    left = {difference.customer_id: difference for difference in differences}
    while True:
        theirs = {row.id: row for row in copy.rows(list(left))}
        ours = {row.id: row for row in source.rows(list(left))}
        for customer_id in list(left):
            if ours.get(customer_id) == theirs.get(customer_id):
                left.pop(customer_id).repaired = True
        if not left or time.monotonic() >= deadline:
            return
        time.sleep(_POLL)


# -- the last result ---------------------------------------------------------------------------------------


def remember(facts: Facts, copy: str, report: Report, now: dt.datetime | None = None) -> None:
    """Store the result in the source, for `last_results`."""
    result = {
        "copy": copy,
        "time": format_time(now or utc_now()),
        "compared": report.compared,
        "different": len(report.unrepaired),
        "repaired": len(report.differences) - len(report.unrepaired),
        "behind": len(report.behind),
        "seconds": round(report.seconds, 3),
    }
    facts.put(Fact.VERIFY + copy, orjson.dumps(result).decode())


def note_repaired(facts: Facts, copy: str, count: int) -> None:
    """Correct the stored result of a copy by this many differences that were repaired after it."""
    if count and (text := facts.get(Fact.VERIFY + copy)):
        last = orjson.loads(text)
        last["different"] = max(0, last["different"] - count)
        last["repaired"] += count
        facts.put(Fact.VERIFY + copy, orjson.dumps(last).decode())


def expect_copy(source: Store, copy: Store, name: str) -> None:
    """Raise NotFound where nobody ever made a copy of this name, and forget what was said of one.

    A copy without a name of its own is the database itself, which may be filled later.
    """
    if name == copy.name or _holds_copy(copy):
        return
    source.facts.drop(Fact.VERIFY + name)
    raise NotFound(
        f"there is no copy {name} in {copy.name}",
        fix="name a copy that custsvc status shows, or begin this one: "
        f"custsvc replicate --backend {copy.name} --copy {name}",
    )


def _holds_copy(copy: Store) -> bool:
    try:
        return copy.facts.get(Fact.COPY) is not None
    except ConfigurationError:
        return False  # not even a schema


def last_results(facts: Facts) -> list[dict[str, Any]]:
    """The last result of each copy: `copy time compared different repaired behind seconds`."""
    return [orjson.loads(value) for _, value in sorted(facts.all(Fact.VERIFY).items())]


def summary(report: Report, names: Sequence[str]) -> str:
    """One line for a person: `source = copy: 100,000 customers identical`."""
    source, copy = names
    parts = [f"{report.compared:,} customers compared in {report.seconds:.1f} s"]
    if report.differences:
        parts.append(f"{len(report.differences):,} differ")
        if repaired := len(report.differences) - len(report.unrepaired):
            parts.append(f"{repaired:,} of them repaired")
    if report.behind:
        parts.append(f"{len(report.behind):,} are behind")
    if not report.differences and not report.behind:
        parts.append("all identical")
    return f"{source} → {copy}: {', '.join(parts)}"
