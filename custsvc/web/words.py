"""Formats values for people: times, numbers, fields."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from flask import Flask
from markupsafe import Markup, escape

from ..domain.customers import same_json

_UNITS = ((31_536_000, "year"), (2_592_000, "month"), (86_400, "day"), (3_600, "hour"), (60, "minute"))

DATABASES = {"postgres": "PostgreSQL", "mongo": "MongoDB"}
VERBS = {
    "created": "added",
    "updated": "changed",
    "deleted": "deleted",
    "restored": "restored",
    "erased": "erased",
    "snapshot": "noted",
    "merged": "merged",
    "merged_into": "merged away",
    "unmerged": "unmerged",
}
MAIL_STATES = {
    "queued": "Queued",
    "claimed": "Being sent",
    "handing_over": "Being sent",
    "deferred": "Waiting to retry",
    "sent": "Sent",
    "failed": "Given up",
    "unknown": "Fate unknown",
    "suppressed": "Suppressed",
    "discarded": "Let go",
}
MAIL_KINDS = {
    "sent": "good",
    "failed": "bad",
    "unknown": "warn",
    "deferred": "warn",
    "queued": "accent",
    "claimed": "accent",
    "handing_over": "accent",
}
FIELDS = {"name": "Name", "email": "E-mail", "phone": "Phone", "metadata": "Metadata", "deleted": "Deleted"}


def add_filters(app: Flask) -> None:
    app.jinja_env.filters.update(
        ago=ago,
        number=number,
        seconds=seconds,
        shown=shown,
        initials=initials,
        hue=hue,
        plural=plural,
        rate=rate,
        fact=fact,
        moment=moment,
    )
    app.jinja_env.globals.update(field_names=FIELDS, databases=DATABASES, verbs=VERBS, same=same_json)
    app.jinja_env.globals.update(mail_states=MAIL_STATES, mail_kinds=MAIL_KINDS)
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True


def parsed(time: dt.datetime | str) -> dt.datetime:
    """A time of a document or a store."""
    return dt.datetime.fromisoformat(time) if isinstance(time, str) else time


def ago(time: dt.datetime | str | None, now: dt.datetime | None = None) -> Markup:
    """How long ago, with the exact time as a tooltip and for the script that updates the text."""
    if time is None:
        return Markup('<span class="none">never</span>')
    at = parsed(time)
    exact = at.astimezone(dt.UTC)
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        exact.isoformat(timespec="milliseconds"),
        exact.strftime("%-d %b %Y, %H:%M:%S"),
        relative((now or dt.datetime.now(dt.UTC)) - at),
    )


def relative(since: dt.timedelta) -> str:
    """`5 minutes ago`, `in 2 hours`, `just now`."""
    total = since.total_seconds()
    if abs(total) < 45:
        return "just now" if total >= 0 else "in a moment"
    for size, name in _UNITS:
        if abs(total) >= size * 0.75:
            count = max(1, round(abs(total) / size))
            text = f"{count} {name}{'s' if count != 1 else ''}"
            return f"{text} ago" if total > 0 else f"in {text}"
    return "a minute ago" if total > 0 else "in a minute"


def number(value: float | None) -> str:
    """`1,234,567`; a dash for None."""
    return "–" if value is None else f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def seconds(value: float | None) -> str:
    """A duration: `0 s`, `1.4 s`, `3 min`, `2 h`."""
    if value is None:
        return "–"
    if value < 0.05:
        return "0 s"
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.0f} h"


def shown(value: Any) -> Markup:
    """A field's value, or the word "none"."""
    if value is None or value in ("", {}):
        return Markup('<span class="none">none</span>')
    if isinstance(value, bool):
        return escape("yes" if value else "no")
    if isinstance(value, dict):
        return escape(json.dumps(value, ensure_ascii=False, indent=1))
    return escape(value)


def rate(value: float | None) -> str:
    """A rate: `12/s`, `0.5/s`; `idle` when nothing comes."""
    if value is None:
        return "–"
    if value == 0:
        return "idle"
    return f"{value:,.0f}/s" if value >= 10 else f"{max(value, 0.1):.1f}/s"


def fact(value: Any) -> str:
    """A fact of a step: a text, or a pair of the filter's name and the value."""
    if isinstance(value, str):
        return value
    kind, number_ = value
    return {"seconds": seconds, "rate": rate, "number": number}[kind](number_)


def moment(value: float | None) -> Markup:
    """How long ago a time was, given in seconds as of time.time()."""
    return ago(None if value is None else dt.datetime.fromtimestamp(value, dt.UTC))


def initials(name: str) -> str:
    """One or two letters for a badge."""
    words = [word for word in name.split() if word[:1].isalnum()]
    return "".join(word[0] for word in (words[:1] + words[1:][-1:])).upper() or "?"


def hue(name: str) -> int:
    """One of twelve colours, the same for the same name."""
    return sum(name.encode()) % 12


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 customer`, `2 customers`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
