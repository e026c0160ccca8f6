"""Verify: proves that a copy holds exactly what its source holds, while both go on changing.

Both are walked in the order of id and compared byte for byte. What differs is not yet wrong: the copy may
be on its way. So the suspects are looked at again after the pipeline has passed the moment at which they
were seen. Only what the pipeline has passed and still is not there, or is there with other content, is a
difference; what it has not passed within the time given is behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import orjson

from .stores.base import Replica, Row, batches

_PAGE = 5000
_POLL = 0.2

Kind = Literal["missing", "stale", "differs", "extra", "ahead"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One customer that is wrong in the copy."""

    customer_id: int
    kind: Kind
    source_version: int | None
    copy_version: int | None
    fields: list[str]


@dataclass(slots=True)
class Report:
    """What was found. `behind` are customers that the pipeline had not brought yet."""

    compared: int = 0
    differences: list[Difference] = field(default_factory=list)
    behind: list[int] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Pipeline:
    """How verify asks whether everything up to a moment has reached the copy.

    `published(seconds)`: every event older than that is on Kafka. `ends()`: the topic's end offsets.
    `positions()`: those of the copy.
    """

    published: Callable[[float], bool]
    ends: Callable[[], dict[int, int]]
    positions: Callable[[], dict[int, int]]


def verify(
    source: Replica,
    copy: Replica,
    pipeline: Pipeline,
    *,
    patience: float = 30.0,
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Compare all customers. `patience` is how many seconds the copy gets to catch up with what was seen."""
    started = time.monotonic()
    report = Report()
    suspects: dict[int, int] = {}
    for customer_id, ours, theirs in _side_by_side(source, copy):
        report.compared += 1
        if ours != theirs:
            suspects[customer_id] = ours.version if ours else 0
        if report.compared % _PAGE == 0:
            progress(_PAGE)
    progress(report.compared % _PAGE)
    if suspects:
        _settle(source, copy, pipeline, suspects, time.monotonic() + patience, report)
    report.seconds = time.monotonic() - started
    return report


def _side_by_side(source: Replica, copy: Replica) -> Iterator[tuple[int, Row | None, Row | None]]:
    ours, theirs = _walk(source), _walk(copy)
    a, b = next(ours, None), next(theirs, None)
    while a or b:
        if b is None or (a and a.id < b.id):
            assert a  # noqa: S101 - one of the two is there
            yield a.id, a, None
            a = next(ours, None)
        elif a is None or b.id < a.id:
            yield b.id, None, b
            b = next(theirs, None)
        else:
            yield a.id, a, b
            a, b = next(ours, None), next(theirs, None)


def _walk(replica: Replica) -> Iterator[Row]:
    after = 0
    while rows := replica.scan(after, _PAGE):
        yield from rows
        after = rows[-1].id


def _settle(
    source: Replica,
    copy: Replica,
    pipeline: Pipeline,
    suspects: dict[int, int],
    deadline: float,
    report: Report,
) -> None:
    """Look at the suspects again and again until each is equal, different for sure, or time is up."""
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
    source: Replica, copy: Replica, suspects: dict[int, int], *, passed: bool, report: Report
) -> dict[int, int]:
    """The suspects that nothing can be said of yet. `passed`: the copy has had all that made them suspect."""
    left: dict[int, int] = {}
    for ids in batches(sorted(suspects), _PAGE):
        # The copy first: read this way round, a copy that is ahead of its source really is.
        theirs = {row.id: row for row in copy.rows(ids)}
        ours = {row.id: row for row in source.rows(ids)}
        for customer_id in ids:
            a, b, least = ours.get(customer_id), theirs.get(customer_id), suspects[customer_id]
            if a == b:
                continue
            kind = _kind(a, b, least, passed=passed)
            if kind is None:
                left[customer_id] = least
            else:
                report.differences.append(_difference(customer_id, kind, a, b))
    return left


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


def _difference(customer_id: int, kind: Kind, a: Row | None, b: Row | None) -> Difference:
    return Difference(
        customer_id,
        kind,
        a.version if a else None,
        b.version if b else None,
        _fields(a.doc, b.doc) if a and b else [],
    )


def _fields(ours: bytes, theirs: bytes) -> list[str]:
    try:
        a, b = orjson.loads(ours), orjson.loads(theirs)
    except orjson.JSONDecodeError:
        return ["(the copy's document is not JSON)"]
    names = [name for name in {**a, **b} if a.get(name, ...) != b.get(name, ...)]
    return names or ["(the same values in other bytes)"]


def summary(report: Report, names: Sequence[str]) -> str:
    """One line for a person: `source = copy: 100,000 customers identical`."""
    source, copy = names
    parts = [f"{report.compared:,} customers compared in {report.seconds:.1f} s"]
    if report.differences:
        parts.append(f"{len(report.differences):,} differ")
    if report.behind:
        parts.append(f"{len(report.behind):,} are behind")
    if not report.differences and not report.behind:
        parts.append("all identical")
    return f"{source} → {copy}: {', '.join(parts)}"
