"""Prints one event for a person: a headline, and below it the changed fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import orjson
from rich.text import Text

from ..domain.customers import same_json
from ..kafka.record import record_time
from ..runtime import printable
from .table import console

if TYPE_CHECKING:
    from ..kafka.tail import Seen

_STYLE = {
    **dict.fromkeys(("created", "restored"), "green"),
    **dict.fromkeys(("updated", "merged", "unmerged"), "yellow"),
    **dict.fromkeys(("deleted", "erased", "merged_into"), "red"),
}
_SHOWN = ("name", "email", "phone", "metadata", "deleted")


class Printer:
    """Prints records of the updates topic, in colour if the terminal and NO_COLOR allow it."""

    def __init__(self) -> None:
        self._console = console()

    def show(self, seen: Seen) -> None:
        clock = record_time(seen.timestamp_ms).strftime("%H:%M:%S.%f")[:-3]
        event = seen.event
        if event is None:
            self._line(
                (clock, "dim"), ("unreadable", "bold red"), (f"{seen.problem}", ""), (_place(seen), "dim")
            )
            return
        self._line(
            (clock, "dim"),
            (event.op, f"bold {_STYLE.get(event.op, 'cyan')}"),
            (f"customer {event.customer_id}", "bold"),
            (f"v{event.version}", ""),
            (f"by {event.actor}" if event.actor else "", "dim"),
            (_place(seen), "dim"),
        )
        before = event.before or {}
        for name, old, new in _fields(before, event.after):
            self._field(name, old, new, is_new=event.before is None)

    def _field(self, name: str, old: Any, new: Any, *, is_new: bool) -> None:
        if old is new or same_json(old, new) or (is_new and (new is None or new is False)):
            return
        parts: list[tuple[str, str]] = [(f"    {name}:", "dim")]
        if not is_new:
            parts += [(_shown(old), "dim" if _is_none(old) else "red strike"), ("→", "dim")]
        self._line(*parts, (_shown(new), "dim" if _is_none(new) else "green"))

    def _line(self, *parts: tuple[str, str]) -> None:
        line = Text(" ").join(Text(printable.line(text), style) for text, style in parts if text)
        self._console.print(line)


def _fields(before: dict[str, Any], after: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The fields in their order, before and after; of the metadata each entry for itself."""
    for name in _SHOWN:
        old, new = before.get(name), after.get(name)
        if name != "metadata":
            yield name, old, new
            continue
        old, new = (each if isinstance(each, dict) else {} for each in (old, new))
        for key in (*old, *(key for key in new if key not in old)):
            yield f"metadata.{key}", _entry(old, key), _entry(new, key)


class _Json(str):
    """A value of metadata as JSON: there, null is a value."""


def _entry(metadata: dict[str, Any], key: str) -> Any:
    if key not in metadata:
        return None
    value = metadata[key]
    return value if isinstance(value, str) else _Json(orjson.dumps(value).decode())


def _is_none(value: Any) -> bool:
    return value is None or value == "null"


def _place(seen: Seen) -> str:
    return f"[{seen.partition}@{seen.offset}]"


def _shown(value: Any) -> str:
    if value is None:
        return "(none)"
    return value if isinstance(value, str) else orjson.dumps(value).decode()
