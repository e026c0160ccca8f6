"""What both backends say about views that cannot be stored."""

from __future__ import annotations

from ...errors import Conflict
from ...ports.views import OWN_MAX, SavedView


def name_taken(view: SavedView) -> Conflict:
    return Conflict(f"there is a view “{view.name}” already")


def too_many() -> Conflict:
    return Conflict(f"there are {OWN_MAX} views already, the most that one may have; delete one first")
