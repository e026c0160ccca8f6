"""Which mails an event calls for: for each, the rule, the recipient, the template and its values.

Rules are data, `Rule` objects in a list, so that others can take the place of the default ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ..events import ReceivedEvent
from .text import one_line

_VALUE_MAX = 500
_CHANGES_MAX = 60
_LABELS = {"name": "Name", "email": "E-mail", "phone": "Phone"}
NOTHING = "–"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of a customer that changed, for people."""

    label: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Rule:
    """Events with one of these ops call for a mail made from `template`, to what `recipient` finds."""

    name: str
    ops: frozenset[str]
    template: str
    recipient: Callable[[ReceivedEvent], str | None]


def _address(event: ReceivedEvent) -> str | None:
    return event.after["email"] or None


def _address_before(event: ReceivedEvent) -> str | None:
    """The address mails went to until now, where it is another one."""
    before = (event.before or {}).get("email")
    return before if isinstance(before, str) and before and before != event.after["email"] else None


# Erased and snapshot call for nothing: the one must leave no trace, the other is no news.
DEFAULT_RULES: Sequence[Rule] = (
    Rule("welcome", frozenset({"created"}), "welcome", _address),
    Rule("changed", frozenset({"updated"}), "changed", _address),
    # Who had the address until now learns that it was changed, and what else, but not the new values.
    Rule("address-changed", frozenset({"updated"}), "address_changed", _address_before),
    Rule("goodbye", frozenset({"deleted"}), "goodbye", _address),
    Rule("welcome-back", frozenset({"restored"}), "welcome_back", _address),
)


def matches(event: ReceivedEvent, rules: Sequence[Rule]) -> Iterator[tuple[Rule, str]]:
    """The rules that call for a mail, each with the recipient; customers without an address get none."""
    for rule in rules:
        if event.op in rule.ops and (recipient := rule.recipient(event)):
            yield rule, recipient


def values(event: ReceivedEvent) -> dict[str, Any]:
    """What templates may show. Every text is one line, however it came."""
    changes = field_changes(event)
    return {
        "customer_id": event.customer_id,
        "version": event.version,
        "name": shown(event.after["name"]),
        "email": shown(event.after["email"]),
        "time": shown(event.after["updated_on"]),
        "changes": changes[:_CHANGES_MAX],
        "more_changes": max(0, len(changes) - _CHANGES_MAX),
    }


def field_changes(event: ReceivedEvent) -> list[FieldChange]:
    """The fields that differ between before and after, metadata key by key."""
    before, after = event.before or {}, event.after
    pairs = [(label, before.get(name), after.get(name)) for name, label in _LABELS.items()]
    old, new = _object(before.get("metadata")), _object(after.get("metadata"))
    pairs += [(shown(key), old.get(key), new.get(key)) for key in sorted(old.keys() | new.keys())]
    return [FieldChange(label, shown(was), shown(now)) for label, was, now in pairs if was != now]


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def shown(value: Any, longest: int = _VALUE_MAX) -> str:
    """A value as one printable line of bounded length."""
    if value is None:
        return NOTHING
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return one_line(text, longest)
