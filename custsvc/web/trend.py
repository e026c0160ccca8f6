"""A small drawing of the last values of a step, and the same in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# The drawing's size in units of its view box; a line at its edge would be cut off.
WIDTH: Final = 120
HEIGHT: Final = 26
_EDGE: Final = 2


@dataclass(frozen=True, slots=True)
class Trend:
    """The last values, oldest first, one every `every` seconds; `unit` follows a value: `/s`, ` waiting`."""

    values: tuple[float, ...]
    unit: str
    every: float

    @property
    def line(self) -> str:
        """The points of a polyline in a box of WIDTH by HEIGHT; empty for fewer than two values."""
        if len(self.values) < 2:
            return ""
        top, step = max(self.values) or 1.0, WIDTH / (len(self.values) - 1)
        room = HEIGHT - 2 * _EDGE
        return " ".join(
            f"{at * step:.1f},{HEIGHT - _EDGE - room * value / top:.1f}"
            for at, value in enumerate(self.values)
        )

    @property
    def words(self) -> str:
        """`Last 30 s: most 12/s`, or that nothing came."""
        if len(self.values) < 2:
            return "Looking for a moment"
        span = f"Last {round(self.every * (len(self.values) - 1))} s"
        most = max(self.values)
        if most == 0:
            return f"{span}: nothing waited" if self.unit == " waiting" else f"{span}: nothing came"
        shown = f"{most:,.0f}" if most >= 10 or most == int(most) else f"{max(most, 0.1):.1f}"
        return f"{span}: most {shown}{self.unit}"
