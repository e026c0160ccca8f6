"""Times as forms send them: UTC, unless they say otherwise."""

from __future__ import annotations

import datetime as dt


def time_of(text: str) -> dt.datetime | None:
    """The time of a date field or a time field; None for any other text."""
    try:
        time = dt.datetime.fromisoformat(text)
        return time.astimezone(dt.UTC) if time.tzinfo else time.replace(tzinfo=dt.UTC)
    except (ValueError, OverflowError):
        return None


def end_of(text: str) -> dt.datetime | None:
    """The end of the day that a date field names; None for any other text."""
    day = time_of(text)
    try:
        return None if day is None else day + dt.timedelta(days=1)
    except OverflowError:  # the last day there is
        return day
