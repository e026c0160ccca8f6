"""Kafka's address in one setting, `[user:password@]host:port[,host:port]`, and its client properties.

User and password occur once, before the first broker, percent-encoded as in any URL. Pure: connects to
nothing, and imports no client.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote

_PROTOCOL: Final = r"(?i:PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL)"
_ADDRESS: Final = re.compile(rf"(?:(?P<protocol>{_PROTOCOL})://)?(?:(?P<login>[^@]*)@)?(?P<servers>[^@]*)")
_BROKER: Final = re.compile(
    rf"(?:{_PROTOCOL}://)?(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_.-]+)(?::(?P<port>\d{{1,5}}))?"
)
# Characters that user and password must encode.
_SIGNS: Final = re.compile(r"[,/?#\s]|%(?![0-9A-Fa-f]{2})")


class KafkaAddress(NamedTuple):
    """The brokers in librdkafka's form, and the user and password for the sign-in, decoded."""

    servers: str
    protocol: str | None = None
    user: str | None = None
    password: str | None = None

    @classmethod
    def parse(cls, text: str) -> KafkaAddress:
        """Parse an address. Raises ValueError, which says what is allowed and shows nothing of the text."""
        found = _ADDRESS.fullmatch(text)
        if found is None:
            raise ValueError("a user must occur once, before the first broker (write @ in a password as %40)")
        servers, protocol, login = found["servers"], found["protocol"], found["login"]
        _check_brokers(servers)
        if login is None:
            return cls(text, protocol)
        user, colon, password = login.partition(":")
        # The protocol applies to every broker, so it stays in the list.
        servers = f"{protocol}://{servers}" if protocol else servers
        return cls(servers, protocol, _decoded(user), _decoded(password) if colon else None)

    def options(self) -> dict[str, str]:
        """librdkafka's properties for the sign-in; empty without a user and a protocol."""
        options = {"security.protocol": self.protocol} if self.protocol else {}
        if self.user is None:
            return options
        options = {"security.protocol": "SASL_PLAINTEXT", **options, "sasl.mechanism": "PLAIN"}
        options["sasl.username"] = self.user
        return options if self.password is None else {**options, "sasl.password": self.password}


def connection(address: str, options: Mapping[str, str] | None = None) -> dict[str, str]:
    """librdkafka's properties for every client of this Kafka; `options` override the address.

    Raises ValueError, which says what is wrong with the address, or with address and options together.
    """
    parsed, options = KafkaAddress.parse(address), dict(options or {})
    own = parsed.options()
    if "sasl.mechanisms" in options:  # an alias of sasl.mechanism
        own.pop("sasl.mechanism", None)
    properties = {"bootstrap.servers": parsed.servers, **own, **options}
    if parsed.user is not None:
        _check_sign_in(properties)
    return properties


def _check_sign_in(properties: Mapping[str, str]) -> None:
    """Check that a given user and password are used. Raises ValueError."""
    protocol = properties["security.protocol"].upper()
    if not protocol.startswith("SASL_"):
        raise ValueError(f"it names a user, but with security.protocol {protocol} nobody signs in")
    mechanism = properties.get("sasl.mechanism") or properties.get("sasl.mechanisms") or ""
    if mechanism.upper().startswith(("PLAIN", "SCRAM")) and not properties.get("sasl.password"):
        raise ValueError("it names a user, but no password")


def _check_brokers(servers: str) -> None:
    for part in servers.split(","):
        broker = _BROKER.fullmatch(part.strip())
        if broker is None or not 0 < int(broker["port"] or 9092) < 65536:
            raise ValueError("it must be [user:password@]host:port[,host:port]")


def _decoded(text: str) -> str:
    if _SIGNS.search(text):
        raise ValueError("a user or password must be percent-encoded")
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError as exc:
        raise ValueError("a decoded user or password is not UTF-8") from exc
    if not decoded.isprintable() or not decoded:
        raise ValueError("a user or password is empty, or has an unprintable character")
    return decoded
