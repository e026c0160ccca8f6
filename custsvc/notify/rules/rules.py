"""Which notifications an event requires: for each, the rule, the recipient, the template and its values.

Rules are data, read from a TOML file by `file`; nothing in them can fail when an event comes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from ...domain.customers import EDITABLE, same_json
from ...domain.received import ReceivedEvent
from ...domain.text import one_line
from .templates import Templates

_VALUE_MAX = 500
_CHANGES_MAX = 60
_LABELS = {"name": "Name", "email": "E-mail", "phone": "Phone"}
NOTHING = "–"
MAIL: Final = "mail"

CUSTOMER: Final = "customer"
PREVIOUS: Final = "previous"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of a customer that changed, for people."""

    label: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Condition:
    """A test of one field: `name`, `metadata.KEY` … of the customer after the event, or `before.…`."""

    field: str
    test: str
    value: Any

    def holds(self, event: ReceivedEvent) -> bool:
        return bool(TESTS[self.test](_field(event, self.field), self.value))


def _ordered(found: Any, value: Any) -> bool:
    """Whether the two can be compared by size: two numbers or two texts."""
    if isinstance(found, bool) or isinstance(value, bool):
        return False
    numbers = isinstance(found, int | float) and isinstance(value, int | float)
    return numbers or (isinstance(found, str) and isinstance(value, str))


def _same(found: Any, value: Any) -> bool:
    return isinstance(found, bool) is isinstance(value, bool) and bool(found == value)


# Values of different types do not match: a condition never raises.
TESTS: Final[Mapping[str, Any]] = {
    "is": _same,
    "is_not": lambda found, value: not _same(found, value),
    "one_of": lambda found, value: any(_same(found, each) for each in value),
    "starts_with": lambda found, value: isinstance(found, str) and found.startswith(value),
    "ends_with": lambda found, value: isinstance(found, str) and found.endswith(value),
    "contains": lambda found, value: isinstance(found, str) and value in found,
    "above": lambda found, value: _ordered(found, value) and found > value,
    "below": lambda found, value: _ordered(found, value) and found < value,
    "there": lambda found, value: (found is not None) is value,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """Events with one of these ops call for a notification made from `template`.

    `to` is CUSTOMER, PREVIOUS or addresses. `always`: also sent to customers who unsubscribed. `digest`: the
    window in seconds whose events share one notification; 0: one for each event. `bulk`: also sees events
    that are marked as made in bulk.
    """

    name: str
    ops: frozenset[str]
    template: str
    to: str | tuple[str, ...] = CUSTOMER
    changed: frozenset[str] = frozenset()
    when: tuple[Condition, ...] = ()
    channel: str = MAIL
    always: bool = False
    digest: float = 0.0
    bulk: bool = False

    def matches(self, event: ReceivedEvent) -> bool:
        """Whether this rule applies to the event."""
        return (
            (self.bulk or not event.bulk)
            and event.op in self.ops
            and (not self.changed or bool(self.changed & changed_names(event)))
            and all(condition.holds(event) for condition in self.when)
        )

    def recipients(self, event: ReceivedEvent) -> tuple[str, ...]:
        """The recipients; customers without an address are left out."""
        if self.channel != MAIL:
            return (self.channel,)
        if not isinstance(self.to, str):
            return self.to
        now, before = event.after["email"], (event.before or {}).get("email")
        address = now if self.to == CUSTOMER else before if before != now else None
        return (address,) if isinstance(address, str) and address else ()


@dataclass(frozen=True, slots=True)
class ChannelConfig:
    """A channel other than mail: its kind, URL and secret."""

    name: str
    kind: str
    url: str = field(repr=False)
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Rules:
    """The content of a rules file."""

    rules: tuple[Rule, ...]
    templates: Templates
    channels: Mapping[str, ChannelConfig] = field(default_factory=dict)

    def matches(self, event: ReceivedEvent) -> Iterator[tuple[Rule, str]]:
        """The rules that apply to the event, each with a recipient."""
        for rule in self.rules:
            if rule.matches(event):
                for recipient in rule.recipients(event):
                    yield rule, recipient

    @property
    def always(self) -> frozenset[str]:
        """The names of the rules that cannot be unsubscribed from."""
        return frozenset(rule.name for rule in self.rules if rule.always)


def changed_names(event: ReceivedEvent) -> set[str]:
    """The names of the fields that differ, `metadata` key by key: `metadata.plan`."""
    before, after = event.before or {}, event.after
    names = {name for name in EDITABLE if not same_json(before.get(name), after.get(name))}
    old, new = _object(before.get("metadata")), _object(after.get("metadata"))
    both = old.keys() & new.keys()
    changed = (old.keys() ^ new.keys()) | {key for key in both if not same_json(old[key], new[key])}
    return names | {f"metadata.{key}" for key in changed}


def _field(event: ReceivedEvent, name: str) -> Any:
    customer: Mapping[str, Any] = event.after
    if name.startswith("before."):
        customer, name = event.before or {}, name.removeprefix("before.")
    if name.startswith("metadata."):
        return _object(customer.get("metadata")).get(name.removeprefix("metadata."))
    return customer.get(name)


def values(event: ReceivedEvent, unsubscribe_url: str = "") -> dict[str, Any]:
    """The values for templates. Every text is made one line."""
    changes = field_changes(event)
    this = {"op": event.op, "version": event.version, "time": shown(event.after["updated_on"])}
    return {
        "op": event.op,
        "customer_id": event.customer_id,
        "version": event.version,
        "name": shown(event.after["name"]),
        "email": shown(event.after["email"]),
        "phone": shown(event.after["phone"]),
        "metadata": {shown(k): shown(v) for k, v in _object(event.after.get("metadata")).items()},
        "time": shown(event.after["updated_on"]),
        "actor": shown(event.actor),
        "changes": changes[:_CHANGES_MAX],
        "more_changes": max(0, len(changes) - _CHANGES_MAX),
        "unsubscribe_url": unsubscribe_url,
        # All events of a digest; else the one event.
        "events": [{**this, "actor": shown(event.actor), "fields": [change.label for change in changes]}],
    }


def field_changes(event: ReceivedEvent) -> list[FieldChange]:
    """The fields that differ between before and after, metadata key by key."""
    before, after = event.before or {}, event.after
    pairs = [(label, before.get(name), after.get(name)) for name, label in _LABELS.items()]
    old, new = _object(before.get("metadata")), _object(after.get("metadata"))
    pairs += [(_label(key), old.get(key), new.get(key)) for key in sorted(old.keys() | new.keys())]
    changed = [pair for pair in pairs if not same_json(*pair[1:])]
    return [FieldChange(label, shown(was), shown(now)) for label, was, now in changed]


def _label(key: str) -> str:
    """The label of a metadata key, which no other field has: a digest knows the fields by their labels."""
    label = shown(key)
    if label != key:
        return json.dumps(key)
    return f"metadata.{label}" if label in _LABELS.values() else label


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def shown(value: Any, longest: int = _VALUE_MAX) -> str:
    """A value as one printable line of bounded length."""
    if value is None:
        return NOTHING
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return one_line(text, longest)
