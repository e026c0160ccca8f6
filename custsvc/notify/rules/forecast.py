"""How many notifications the rules would send for changes that are still to be made."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import orjson

from ...config import Settings
from ...domain.customers import EDITABLE, Fields, Stored
from ...domain.received import ReceivedEvent
from ...errors import ConfigurationError
from .file import load
from .rules import Rules

# What no rule looks at, of a customer that is not stored yet.
_REST: Final = {"id": 1, "version": 1, "deleted": False, "updated_on": "", "updated_by": ""}


class Forecast:
    """Counts notifications by rule. A digest counts once for each of its changes, so it is a limit there."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._bulk = frozenset(rule.name for rule in rules.rules if rule.bulk)
        self._ops = frozenset(op for rule in rules.rules for op in rule.ops)
        self.counts: Counter[str] = Counter()

    @classmethod
    def of(cls, settings: Settings) -> Forecast | None:
        """By the rules of these settings; None where they cannot be read, as only `notify` needs them."""
        try:
            return cls(_rules(settings.notify_rules, _changed_at(settings.notify_rules)))
        except ConfigurationError:
            return None

    def add(self, op: str, before: Stored | None, fields: Fields) -> None:
        """Count what one change would send, if the rules saw it."""
        if op in self._ops:
            after = {**_REST, **{name: getattr(fields, name) for name in EDITABLE}}
            self._add(op, None if before is None else orjson.loads(before.doc), after)

    def add_snapshot(self, doc: bytes) -> None:
        """Count what sending a customer again would send, given its canonical document."""
        if "snapshot" in self._ops:
            self._add("snapshot", None, orjson.loads(doc))

    def _add(self, op: str, before: dict[str, Any] | None, after: dict[str, Any]) -> None:
        event = ReceivedEvent("", op, 1, 1, [], "", None, None, before, after, b"")
        self.counts.update(rule.name for rule, _ in self._rules.matches(event))

    def scaled(self, factor: float) -> Forecast:
        """The same forecast for this many times the changes."""
        found = Forecast(self._rules)
        found.counts = Counter({name: round(count * factor) for name, count in self.counts.items()})
        return found

    @property
    def total(self) -> int:
        """How many, if the rules see the changes."""
        return self.counts.total()

    @property
    def anyway(self) -> int:
        """How many even of changes that are marked as made in bulk: those of rules with `bulk = true`."""
        return sum(self.counts[name] for name in self._bulk)


def _changed_at(path: str) -> float:
    try:
        return Path(path).stat().st_mtime if path else 0.0
    except OSError:
        return 0.0


@lru_cache(maxsize=1)
def _rules(path: str, changed_at: float) -> Rules:
    """The rules of a file, read and checked once for each time that it was changed at."""
    del changed_at
    return load(Settings(notify_rules=path))
