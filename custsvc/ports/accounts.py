"""API keys, users and sessions as a database keeps them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Literal, Protocol

Role = Literal["read", "write", "admin"]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as stored: its public prefix and the SHA-256 of the whole, never the key itself."""

    prefix: str
    sha256: bytes
    name: str
    role: Role
    created_on: dt.datetime
    expires_on: dt.datetime | None = None
    revoked_on: dt.datetime | None = None


class Keys(Protocol):
    """The API keys of a system of record."""

    def add(self, key: ApiKey) -> None:
        """Store a key. Raises Conflict if the prefix is taken."""

    def find(self, prefix: str) -> ApiKey | None:
        """The key with this prefix, revoked and expired ones too."""

    def all(self) -> list[ApiKey]:
        """Every key, the oldest first."""

    def revoke(self, prefix: str, now: dt.datetime) -> bool:
        """Revoke a key permanently; False if there is no live one."""


@dataclass(frozen=True, slots=True)
class User:
    """A user of the pages. `password` is a hash with its parameters."""

    name: str
    password: str = field(repr=False)
    role: Role
    created_on: dt.datetime
    disabled_on: dt.datetime | None = None


class Users(Protocol):
    """The people who may sign in to the pages of a system of record."""

    def add(self, user: User) -> None:
        """Store a user. Raises Conflict if the name is taken."""

    def find(self, name: str) -> User | None:
        """The user of this name, disabled ones too."""

    def all(self) -> list[User]:
        """Every user, in the order of their names."""

    def replace(self, user: User) -> bool:
        """Give the user of this name these values; False if there is none."""

    def remove(self, name: str) -> bool:
        """Delete a user; False if there is none. The caller must end the user's sessions."""


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in browser. `id` is a hash of the browser's token, never the token.

    `subject` names how it signed in: `user:NAME`, `key:PREFIX` or `oidc:SUBJECT`.
    """

    id: str
    subject: str
    actor: str
    role: Role
    created_on: dt.datetime
    seen_on: dt.datetime


class Sessions(Protocol):
    """Sessions and sign-in attempts, shared by all processes of `serve`."""

    def add(self, session: Session) -> None:
        """Store a session. Durable when it returns."""

    def find(self, session_id: str) -> Session | None:
        """The session as stored, expired or not."""

    def all(self) -> list[Session]:
        """Every session, expired ones too, the one that was used last first."""

    def seen(self, session_id: str, now: dt.datetime) -> None:
        """Note that the session was used. `seen_on` never goes back."""

    def remove(self, session_id: str) -> None:
        """End a session, if it exists."""

    def remove_of(self, subject: str) -> int:
        """End all sessions of a subject; return how many."""

    def purge(self, created_before: dt.datetime) -> None:
        """Delete sessions and sign-in attempts that began before this."""

    def count_try(self, key: str, now: dt.datetime, window: float) -> int:
        """Count one attempt under `key`; return how many there were in a window of this many seconds.

        Atomic: concurrent attempts get different numbers.
        """

    def forget_tries(self, key: str) -> None:
        """Reset the count."""
