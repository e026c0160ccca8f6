"""Finds clear-text connections: those of the settings to other machines."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from ..config import Settings

_KAFKA_CLEAR: Final = ("plaintext", "sasl_plaintext")


def elsewhere(hosts: Iterable[str]) -> list[str]:
    """The hosts that are not this machine; an unknown name counts as one of them."""
    return sorted({host for host in hosts if not _is_here(host)})


def _is_here(host: str) -> bool:
    if not host or host.startswith("/") or host.endswith(".sock"):
        return True  # a socket in the file system
    with suppress(OSError, UnicodeError):
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
        return all(_is_ours(family, address[0]) for family, _, _, _, address in found)
    return False


def _is_ours(family: int, address: str | int) -> bool:
    """Whether an address belongs to this machine: it is impossible to listen on others."""
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        return True
    return False


def kafka_in_clear(settings: Settings) -> list[str]:
    """The brokers on other machines with clear-text connections."""
    if not settings.kafka:
        return []
    properties = settings.kafka_connection
    if str(properties.get("security.protocol", "plaintext")).lower() not in _KAFKA_CLEAR:
        return []
    servers = [each.strip().rpartition("://")[2] for each in properties["bootstrap.servers"].split(",")]
    return elsewhere(each.rpartition(":")[0].strip("[]") or each for each in servers if each)


def mail_in_clear(settings: Settings) -> list[str]:
    """The mail server, if mails go to another machine in clear text."""
    parts = urlsplit(settings.smtp_url)
    return elsewhere([parts.hostname or ""]) if parts.scheme == "smtp+plain" else []
