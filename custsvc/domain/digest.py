"""What the stored entries of a digest tell: the part that both its maker and its sender know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

PLAIN: Final = "plain"
"""Among the merged values of a digest: whether those of all events are plain, also of those not listed."""


def is_plain(shown: Mapping[str, Any]) -> bool:
    """Whether these are values of updates, and every difference between them can be seen."""
    only_updates = all(event["op"] == "updated" for event in shown["events"])
    return only_updates and all(was != now and "…" not in was + now for _, was, now in shown["changes"])


def has_come_to_nothing(entries: str | None) -> bool:
    """Whether these are of a digest of updates only, after which every field is as it was before."""
    if entries is None:
        return False
    kept = orjson.loads(entries)
    return bool(kept.get(PLAIN) and not kept["changes"] and not kept["more_changes"])
