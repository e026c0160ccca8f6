"""API keys, users and sessions as a database keeps them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

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
    """A user of the pages. `password` is a hash with its parameters; `email` gets links to reset it."""

    name: str
    password: str = field(repr=False)
    role: Role
    created_on: dt.datetime
    disabled_on: dt.datetime | None = None
    email: str | None = None

    @property
    def address(self) -> str | None:
        """Where mails to the user go: the address of its own, else the name if that is one."""
        return self.email or (self.name if "@" in self.name else None)


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
class Factor:
    """A user's second factor: the secret of the codes (TOTP), and the hashes of the unused recovery codes.

    It counts from `confirmed_on` on: before that, the user has not shown a code of it yet. `last_step` is the
    time step of the last code that was used: neither it nor an earlier one is taken again.
    """

    name: str
    secret: str = field(repr=False)
    created_on: dt.datetime
    confirmed_on: dt.datetime | None = None
    last_step: int = 0
    recovery: tuple[str, ...] = field(default=(), repr=False)


class Factors(Protocol):
    """The second factors of users. Each change is one atomic step."""

    def find(self, name: str) -> Factor | None:
        """The user's second factor, confirmed or not."""

    def confirmed(self) -> set[str]:
        """The names of all users who have a confirmed one."""

    def begin(self, name: str, secret: str, now: dt.datetime) -> bool:
        """Store a secret, unconfirmed, in place of an unconfirmed one; False if a confirmed one is there."""

    def confirm(self, name: str, secret: str, step: int, recovery: Sequence[str], now: dt.datetime) -> bool:
        """Confirm this secret, whose code of `step` was shown; False if another call was first."""

    def use_step(self, name: str, step: int) -> bool:
        """Use the code of a time step; False if it or a later one was used already."""

    def use_recovery(self, name: str, code: str) -> bool:
        """Use the recovery code with this hash; False if there is no such unused one."""

    def renew(self, name: str, recovery: Sequence[str]) -> bool:
        """Replace all recovery codes; False if the user has no confirmed second factor."""

    def remove(self, name: str) -> bool:
        """Delete a user's second factor; False if there is none."""


class Asked(NamedTuple):
    """A password reset that somebody asked for, for the name that was typed: maybe of no user."""

    name: str
    asked_on: dt.datetime


class Resets(Protocol):
    """Password resets: who asked for one, and the hashes of the tokens that were mailed.

    A name has at most one. It is asked for, claimed by a process, issued a token, and settled once mailed;
    a claim that is not settled ends with its lease, so that another process mails a new token.
    """

    def ask(self, name: str, now: dt.datetime) -> None:
        """Note that a reset was asked for. Durable when it returns. The same work for every name."""

    def claim(self, now: dt.datetime, lease: float) -> Asked | None:
        """The oldest unsettled one, for `lease` seconds for this caller alone; None if there is none."""

    def issue(self, name: str, token: str, expires_on: dt.datetime) -> None:
        """Make this the name's only token (its hash), before it is mailed."""

    def settle(self, asked: Asked) -> None:
        """End a claim. One that was asked for again meanwhile stays unsettled."""

    def owner(self, token: str, now: dt.datetime) -> str | None:
        """Whose token has this hash; None for an unknown, used or expired one."""

    def take(self, token: str, now: dt.datetime) -> str | None:
        """The same, and use it up: of several callers one gets the name."""

    def drop(self, name: str) -> None:
        """Delete the name's reset, its token with it."""

    def purge(self, now: dt.datetime) -> None:
        """Delete expired tokens, and what was asked for an hour ago without success."""


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
