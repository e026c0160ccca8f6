"""The port of facts: short texts about one database as a whole, by name; and all their names."""

from __future__ import annotations

from typing import Final, Protocol


class Fact:
    """The names of facts; docs/architecture.md says who writes and reads each, and what for.

    One that ends in `:` or `.` begins a name: a topic, a copy, a customer or another id follows.
    """

    ROLE: Final = "role"
    SECRET: Final = "secret"  # noqa: S105 - a name
    SOURCE: Final = "source"
    COPY: Final = "copy"
    COPY_OF: Final = "copy-of"
    COPY_TOPIC: Final = "copy-topic:"
    COPY_LOST: Final = "copy-lost:"
    REBUILD: Final = "rebuild"
    GENERATION: Final = "generation"
    SHADOW: Final = "shadow"
    TOPIC: Final = "topic:"
    RESYNCED: Final = "resynced:"
    ACKNOWLEDGED: Final = "acknowledged:"
    TOPIC_LOSS: Final = "topic-loss:"
    GROWTH: Final = "growth:"
    GROWTH_WAITS: Final = "growth-waits:"
    GROWTH_HOLD: Final = "growth-hold:"
    GROWTH_CHOICE: Final = "growth-choice:"
    SHARDS: Final = "relay-shards"
    DIVISION: Final = "relay-division"
    RELAY_WAITS: Final = "relay-waits"
    OUTBOX_SHARE: Final = "outbox-share:"
    EVENT_LIMIT: Final = "event-limit"
    PARKED: Final = "parked:"
    REPLAY: Final = "replay"
    VERIFY: Final = "verify:"
    TERMS_VERSION: Final = "terms_version"
    ERASED_AT: Final = "erased.at"
    # Where releases before 0.2 kept uploaded files and jobs; `serve` deletes them. Now they are on the shelf.
    OLD_PAGES: Final = "page."
    HISTORY: Final = "history"
    MAIL_TEXTS: Final = "mail-texts"
    OUTBOX_LEASE: Final = "outbox"
    REBUILD_LEASE: Final = "rebuild_lease"


class Facts(Protocol):
    """Short texts about this database as a whole, by name."""

    def get(self, name: str) -> str | None:
        """The fact, or None."""

    def keep(self, name: str, value: str) -> str:
        """The fact; if there was none, it is set to `value`: the first caller decides."""

    def put(self, name: str, value: str) -> None:
        """Set the fact. Durable when it returns."""

    def drop(self, name: str) -> None:
        """Delete the fact."""

    def drop_all(self, prefix: str) -> int:
        """Delete the facts whose name has this prefix; return how many."""

    def all(self, prefix: str) -> dict[str, str]:
        """The facts whose name has this prefix."""
