"""Memory and processor time of a process and those below it, from /proc; None where there is no /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")


def tree(pid: int) -> Iterator[int]:
    """A process and those below it that run now."""
    yield pid
    try:
        tasks = list((_PROC / str(pid) / "task").iterdir())
    except OSError:
        return
    for task in tasks:
        try:
            children = (task / "children").read_text(encoding="ascii").split()
        except OSError:
            continue
        for child in children:
            yield from tree(int(child))


def peak_mb(pid: int) -> float | None:
    """The most memory that each process of the tree had so far, added up, in MB."""
    found = [kb for each in tree(pid) if (kb := _high_water_kb(each)) is not None]
    return round(sum(found) / 1024) if found else None


def processor_s(pid: int) -> float | None:
    """Seconds of processor time of the tree, the system's and that of children that ended included."""
    found = [ticks for each in tree(pid) if (ticks := _ticks(each)) is not None]
    return sum(found) / os.sysconf("SC_CLK_TCK") if found else None


def _high_water_kb(pid: int) -> int | None:
    try:
        status = (_PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    line = next((each for each in status.splitlines() if each.startswith("VmHWM:")), None)
    return int(line.split()[1]) if line else None


def _ticks(pid: int) -> int | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name, in brackets, may hold spaces and brackets itself; utime is the 12th field after it.
    fields = stat.rpartition(")")[2].split()
    return sum(int(each) for each in fields[11:15])
