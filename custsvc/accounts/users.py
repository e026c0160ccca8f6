"""Changes of the users of the pages, for the command line and the pages.

Every change that takes something away ends the user's sessions too, after the change is stored: a session
that begins between the two already has the new state.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

from ..domain.address import BadAddress, one_address
from ..domain.customers import utc_now
from ..errors import FieldError, NotFound, ValidationError
from ..ports.accounts import Role, User
from ..ports.store import Store
from .passwords import checked_name, folded_name, hash_password


def made_up_password() -> str:
    """A password of 120 random bits, to be shown once."""
    return secrets.token_urlsafe(15)


def find_user(store: Store, name: str) -> User:
    """The user of a typed name. Raises NotFound."""
    user = store.users.find(folded_name(name))
    if user is None:
        raise NotFound(f"there is no user {name}", fix="custsvc users list")
    return user


def create_user(store: Store, name: str, role: Role, password: str, email: str | None = None) -> User:
    """Store a new user. Raises ValidationError for the name or the address, Conflict if the name is taken."""
    user = User(checked_name(name), hash_password(password), role, utc_now(), email=checked_address(email))
    store.users.add(user)
    store.factors.remove(user.name)  # of an earlier user of this name, deleted by an earlier version
    return user


def set_role(store: Store, user: User, role: Role) -> int:
    """Give a user this role; return how many sessions ended."""
    return _change(store, user, role=role)


def set_password(store: Store, user: User, password: str) -> int:
    """Give a user this password; return how many sessions ended. A mailed link to reset it is void."""
    hashed = hash_password(password)  # takes a while, in which the user may be changed: before it is read
    store.resets.drop(user.name)
    return _change(store, user, password=hashed)


def set_address(store: Store, user: User, email: str | None) -> str | None:
    """Give a user this address, none if it is empty; return it. A link that was mailed before is void.

    Raises ValidationError.
    """
    address = checked_address(email)
    store.resets.drop(user.name)
    _replace(store, user, email=address)
    return address


def checked_address(email: str | None) -> str | None:
    """One mail address as it is stored; None for an empty text. Raises ValidationError."""
    if not (email or "").strip():
        return None
    try:
        return one_address((email or "").strip()).spec
    except BadAddress as exc:
        raise ValidationError([FieldError("email", "bad_email", f"is not an e-mail address: {exc}")]) from exc


def disable(store: Store, user: User) -> int:
    """Refuse all later sign-ins of a user; return how many sessions ended."""
    return _change(store, user, disabled_on=utc_now())


def enable(store: Store, user: User) -> int:
    """Let a user sign in again; return how many sessions ended."""
    return _change(store, user, disabled_on=None)


def reset_factor(store: Store, user: User) -> int:
    """Delete a user's second factor, as after the loss of a phone; return how many sessions ended."""
    store.factors.remove(user.name)
    return store.sessions.remove_of(f"user:{user.name}")


def delete_user(store: Store, user: User) -> int:
    """Delete a user, with the views that the user did not share; return how many sessions ended."""
    store.users.remove(user.name)
    store.resets.drop(user.name)
    store.views.leave(f"user:{user.name}")
    store.factors.remove(user.name)
    return store.sessions.remove_of(f"user:{user.name}")


def _change(store: Store, user: User, **changes: Any) -> int:
    _replace(store, user, **changes)
    return store.sessions.remove_of(f"user:{user.name}")


def _replace(store: Store, user: User, **changes: Any) -> None:
    """Change only these fields of the user as it is now: others may have changed since it was read."""
    now = store.users.find(user.name)
    if now is None or not store.users.replace(replace(now, **changes)):
        raise NotFound(f"there is no user {user.name}", fix="custsvc users list")
