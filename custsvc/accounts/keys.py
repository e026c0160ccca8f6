"""API keys: how they are made and stored, and how they identify the caller of a request.

A key is `csk_<prefix>_<secret>` with 256 random bits. It is shown once; the database keeps its public
prefix and the SHA-256 of the whole. Roles include the weaker ones: read < write < admin.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, get_args

from ..domain.customers import utc_now
from ..errors import ConfigurationError, FieldError, ValidationError
from ..ports.accounts import ApiKey, Keys, Role

ROLES: Final[tuple[Role, ...]] = get_args(Role)
_RANK: Final = {role: rank for rank, role in enumerate(ROLES)}
NAME_MAX: Final = 100

# Seconds for which a process trusts a cached key: a revoked one stops working within this time.
KEY_TTL: Final = 2.0
_CACHED_MAX: Final = 4096

_KEY = re.compile(r"csk_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request. `name` becomes the actor of its changes, `id` distinguishes equal names."""

    name: str
    role: Role
    id: str = ""

    def may(self, role: Role) -> bool:
        return _RANK[self.role] >= _RANK[role]


ANONYMOUS: Final = Principal("anonymous", "admin", "anonymous")


def new_key(
    name: str, role: Role, *, now: dt.datetime | None = None, expires_on: dt.datetime | None = None
) -> tuple[str, ApiKey]:
    """A fresh key: its text, to be shown once, and what a store keeps. Raises ValidationError."""
    name = name.strip()
    if not 0 < len(name) <= NAME_MAX or not name.isprintable():
        raise ValidationError(
            [FieldError("name", "bad_name", f"must be 1 to {NAME_MAX} printable characters")]
        )
    prefix = secrets.token_hex(6)
    text = f"csk_{prefix}_{secrets.token_urlsafe(32)}"
    return text, ApiKey(prefix, _digest(text), name, role, now or utc_now(), expires_on)


def _digest(text: str) -> bytes:
    # The key is random and long, so a plain hash cannot be searched; a slow one would slow each request.
    return hashlib.sha256(text.encode()).digest()


def state_of(key: ApiKey, now: dt.datetime) -> str:
    """`live`, `expired` or `revoked`."""
    if key.revoked_on is not None:
        return "revoked"
    return "expired" if key.expires_on is not None and key.expires_on <= now else "live"


class KeyRing:
    """The keys of a store, each read at most every `ttl` seconds."""

    def __init__(
        self,
        keys: Keys,
        *,
        ttl: float = KEY_TTL,
        clock: Callable[[], dt.datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._ttl = ttl
        self._clock = clock
        self._monotonic = monotonic
        self._cached: dict[str, tuple[float, ApiKey | None]] = {}

    def principal(self, text: str) -> Principal | None:
        """The principal of this key; None for one that is malformed, unknown, expired or revoked."""
        match = _KEY.fullmatch(text)
        return self._checked(text, self._find(match[1])) if match else None

    def known(self, text: str) -> Principal | None:
        """The same from what was read less than `ttl` ago; None also where the store had to be asked."""
        match = _KEY.fullmatch(text)
        cached = self._cached.get(match[1]) if match else None
        if cached is None or cached[0] <= self._monotonic():
            return None
        return self._checked(text, cached[1])

    def by_prefix(self, prefix: str) -> Principal | None:
        """The principal of a key that was checked before; None once it is expired or revoked."""
        key = self._find(prefix)
        return None if key is None else self._of(key)

    def _checked(self, text: str, key: ApiKey | None) -> Principal | None:
        if key is None or not hmac.compare_digest(key.sha256, _digest(text)):
            return None
        return self._of(key)

    def _of(self, key: ApiKey) -> Principal | None:
        if state_of(key, self._clock()) != "live":
            return None
        return Principal(key.name, key.role, key.prefix)

    def _find(self, prefix: str) -> ApiKey | None:
        now = self._monotonic()
        cached = self._cached.get(prefix)
        if cached is not None and cached[0] > now:
            return cached[1]
        key = self._keys.find(prefix)
        # Unknown prefixes are cached too, so an attacker who tries many must not fill the memory.
        if len(self._cached) >= _CACHED_MAX:
            self._cached.clear()
        self._cached[prefix] = (now + self._ttl, key)
        return key


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach (or be) `host`."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_exposure(auth: str, host: str) -> None:
    """Refuse to serve without keys where others could reach it. Raises ConfigurationError."""
    if auth == "off" and not is_loopback(host):
        raise ConfigurationError(
            f"the API must not listen on {host or 'every address'} without API keys: anybody could write",
            fix="set CUSTSVC_AUTH=on and make a key with `custsvc keys create NAME --role write`, "
            "or CUSTSVC_HTTP_HOST=127.0.0.1",
        )
