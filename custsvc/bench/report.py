"""The results of a benchmark: one measure per row, with the bare loop beside it, and facts of the machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import __version__


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure. `bare`: the same work in a bare loop, in the same run; `rss_mb`: the role's peak memory.

    `cpu_ms`: milliseconds of processor time of the role, not of the database, for 1,000 events.
    """

    measure: str
    value: float
    unit: str
    bare: float | None = None
    rss_mb: float | None = None
    cpu_ms: float | None = None
    detail: str = ""

    @property
    def ratio(self) -> float | None:
        """The ratio of custsvc to the bare loop."""
        return round(self.value / self.bare, 2) if self.bare else None


COLUMNS = ("measure", "value", "bare", "ratio", "unit", "rss_mb", "cpu_ms", "detail")


def as_rows(measures: Sequence[Measure]) -> list[dict[str, Any]]:
    """The rows of the table and of the JSON."""
    return [{**asdict(each), "ratio": each.ratio} for each in measures]


def facts() -> dict[str, Any]:
    """The facts of this machine that are needed to compare figures."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "custsvc": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _first("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _first(path: str, name: str) -> str | None:
    """The first `name: value` in a file of /proc; None if there is none, as on another system."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
