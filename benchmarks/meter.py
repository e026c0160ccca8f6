"""What is noted of each turn in a comparison, and the rows that come of several rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.table import Table

from custsvc.bench import proc
from custsvc.config import Settings


@dataclass(frozen=True, slots=True)
class Turn:
    """Processes that were started: their ids, when (monotonic), and how to wait for them and check them."""

    pids: Sequence[int]
    started: float
    wait_running: Callable[[], float]
    check: Callable[[], None]

    def processor_s(self) -> float:
        return sum(proc.processor_s(each) or 0.0 for each in self.pids)

    def peak_mb(self) -> float:
        return sum(proc.peak_mb(each) or 0.0 for each in self.pids)


@dataclass(frozen=True, slots=True)
class Contender:
    """One that takes turns. `start` takes settings and the place to read from, as the outbox gave it."""

    name: str
    start: Callable[[Settings, str], AbstractContextManager[Turn]]


@dataclass(frozen=True, slots=True)
class Result:
    """One turn. Processor time is in milliseconds per 1,000 events, of the processes and those below them.

    `start_s`: from the start of the process until its first event arrived. `later`: events a second in the
    second half, when a JVM is warm. `database_cpu_ms`: the same cost in the database's processes.
    """

    value: float
    start_s: float
    rss_mb: float
    cpu_ms: float
    later: float | None = None
    database_cpu_ms: float | None = None


def rows(measure: str, found: Mapping[str, Sequence[Result]]) -> list[dict[str, Any]]:
    """A row for each system: medians, least and most of the value, and the first system's lead.

    `ratio` above 1 says that the first is better, also where less is better, as in milliseconds.
    """
    less_is_better = measure.endswith(" ms")
    first = median(each.value for each in next(iter(found.values())))
    made = []
    for system, results in found.items():
        values = [each.value for each in results]
        middle = median(values)
        best, other = (middle, first) if less_is_better else (first, middle)
        made.append(
            {
                "measure": measure,
                "system": system,
                "value": _rounded(middle),
                "least": _rounded(min(values)),
                "most": _rounded(max(values)),
                "ratio": round(best / other, 2) if other else None,
                "later": _median(results, "later"),
                "start_s": _median(results, "start_s"),
                "rss_mb": _median(results, "rss_mb"),
                "cpu_ms": _median(results, "cpu_ms"),
                "database_cpu_ms": _median(results, "database_cpu_ms"),
                "rounds": len(results),
            }
        )
    return made


def table(measures: Sequence[Mapping[str, Any]]) -> Table:
    """The rows for people."""
    heads = ("measure", "system", "median", "least to most", "custsvc is", "2nd half", "start s")
    shown = Table(*heads, "RSS MB", "cpu ms", "db cpu ms")
    last = ""
    for row in measures:
        again = row["measure"] == last
        last = row["measure"]
        shown.add_row(
            "" if again else last,
            row["system"],
            f"{row['value']:,}",
            f"{row['least']:,} to {row['most']:,}",
            f"{row['ratio']:g}×" if again and row["ratio"] else "",
            *("" if row[name] is None else f"{row[name]:,}" for name in ("later", "start_s", "rss_mb")),
            *("" if row[name] is None else f"{row[name]:,}" for name in ("cpu_ms", "database_cpu_ms")),
        )
    return shown


def groups(measures: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[tuple[str, float]]]]:
    """The rows as groups of a chart."""
    found: dict[str, list[tuple[str, float]]] = {}
    for row in measures:
        found.setdefault(row["measure"], []).append((row["system"], row["value"]))
    return list(found.items())


def _median(results: Sequence[Result], name: str) -> float | None:
    values = [value for each in results if (value := getattr(each, name)) is not None]
    return _rounded(median(values)) if values else None


def _rounded(value: float) -> float:
    return round(value) if value >= 100 else round(value, 1)
