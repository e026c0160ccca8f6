"""What each role does in a database: its account needs to be allowed no more.

Nobody but `migrate` and `replicate --rebuild` changes the schema; those need an account that owns the tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple, get_args

RoleName = Literal["serve", "serve --read-only", "relay", "notify", "replicate", "maintain", "commands"]
ROLES: Final[tuple[RoleName, ...]] = get_args(RoleName)

Doing = Literal["read", "add", "change", "remove"]
DOINGS: Final[tuple[Doing, ...]] = get_args(Doing)

# Tables by what is done with them. `position` is a copy's; `counter` gives ids, where no sequence does;
# `outbox_cursor` is what a relay has sent, where events do not say it themselves.
_READ: Final = "read"
_WRITE: Final = "read add change"
_ALL: Final = "read add change remove"
_KNOWN: Final = {"custsvc_migration": _READ, "custsvc_meta": _ALL}
_SHELF: Final = {"shelf": _ALL}
_PAGES: Final = {
    "api_key": _READ,
    "app_user": _READ,
    "second_factor": "read change",
    "web_session": _ALL,
    "sign_in_try": _ALL,
}
_RESETS: Final = "password_reset"
_NOTES: Final = ("dismissed_pair", "saved_view")
_MAILS: Final = (
    "notification",
    "notification_attempt",
    "notification_suppression",
    "notification_preference",
)
_NEEDS: Final[Mapping[RoleName, Mapping[str, str]]] = {
    "serve": {
        **_KNOWN,
        **_SHELF,
        **_PAGES,
        # An admin makes and changes them on the pages, and users their second factor.
        "api_key": _WRITE,
        "app_user": _WRITE,
        "second_factor": _ALL,
        _RESETS: _ALL,
        "customer": _WRITE,
        "customer_event": _WRITE,
        "counter": _WRITE,
        "answer": _ALL,
        **dict.fromkeys(_NOTES, _ALL),
        "webhook_endpoint": _ALL,
        # Secrets are made here, and read only where they sign.
        "webhook_secret": "add",
        "outbox_cursor": _READ,
        **dict.fromkeys(_MAILS, "read change"),
        "notification_preference": _WRITE,
        # An admin adds and lifts them; who was erased is kept in no list.
        "notification_suppression": _ALL,
    },
    "serve --read-only": {
        **_KNOWN,
        **_SHELF,
        **_PAGES,
        **dict.fromkeys(("customer", "customer_event", *_NOTES, "outbox_cursor", "position", *_MAILS), _READ),
        "webhook_endpoint": _READ,
        "answer": _ALL,
    },
    "relay": {**_KNOWN, "customer": _READ, "customer_event": _READ, "outbox_cursor": _WRITE},
    "notify": {
        **_KNOWN,
        **dict.fromkeys(_MAILS, _ALL),
        "customer": _READ,
        "webhook_endpoint": "read change",
        "webhook_secret": "read remove",
    },
    "replicate": {**_KNOWN, "customer": _WRITE, "position": _WRITE},
    # The relay too, if it trims the history.
    "maintain": {
        **_KNOWN,
        **dict.fromkeys(("customer", "outbox_cursor"), _READ),
        "customer_event": "read remove",
    },
    "commands": {
        **_KNOWN,
        **_SHELF,
        **dict.fromkeys(
            (*_PAGES, _RESETS, "customer", "customer_event", "answer", *_NOTES, "position", *_MAILS),
            _ALL,
        ),
        **dict.fromkeys(("webhook_endpoint", "webhook_secret"), _ALL),
        **dict.fromkeys(("counter", "outbox_cursor"), _WRITE),
    },
}


class Need(NamedTuple):
    """Something that is done with a table."""

    table: str
    doing: Doing


def needs(
    role: RoleName, *, names: Mapping[str, str | None], more: Mapping[str, Mapping[str, str]]
) -> list[Need]:
    """What a role does, and `more` in this backend, by its own names of tables (None: it has no such)."""
    asked = {**_NEEDS[role], **more.get(role, {})}
    return [
        Need(name, doing)
        for table, doings in asked.items()
        if (name := names.get(table, table)) is not None
        for doing in DOINGS
        if doing in doings.split()
    ]


def by_doings(found: Iterable[Need]) -> dict[tuple[Doing, ...], list[str]]:
    """The tables by what is done with them, as few groups as there can be."""
    tables: dict[str, list[Doing]] = {}
    for table, doing in found:
        tables.setdefault(table, []).append(doing)
    groups: dict[tuple[Doing, ...], list[str]] = {}
    for table, doings in tables.items():
        groups.setdefault(tuple(doings), []).append(table)
    return groups
