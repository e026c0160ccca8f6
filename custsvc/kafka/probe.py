"""Probes a broker that refuses us without saying why, by connections of our own that send no secrets.

A broker that is spoken to by the wrong protocol closes the connection without an answer, and librdkafka
reports every certificate that it cannot verify by the same sentence.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

# Seconds.
_PATIENCE: Final = 3.0
_TLS_NAMES: Final = "ssl.endpoint.identification.algorithm"


def protocol_of(options: Mapping[str, str]) -> str:
    """`security.protocol` in small letters."""
    return options.get("security.protocol", "plaintext").lower()


def mismatch(servers: str, options: Mapping[str, str]) -> str | None:
    """How the protocol of these brokers differs from `security.protocol`; None if it does not, or is unknown.

    It probes twice: a broker that goes down meanwhile closes the connection as well.
    """
    reason = _mismatch(servers, protocol_of(options))
    return reason if reason and reason == _mismatch(servers, protocol_of(options)) else None


def _mismatch(servers: str, protocol: str) -> str | None:
    tls, sasl = protocol.endswith("ssl"), protocol.startswith("sasl")
    for host, port in _addresses(servers):
        for by_tls in (False, True):
            heard = _conversation(host, port, tls=by_tls)
            if heard is None:
                continue
            if by_tls != tls:
                speaks = "TLS" if by_tls else "clear text"
                return f"that port speaks {speaks}, but security.protocol is {protocol}"
            if heard == "hangs up" and not sasl:
                return f"that port asks for a sign-in, but security.protocol is {protocol}"
            return None
    return None


def certificate_problem(servers: str, options: Mapping[str, str]) -> str | None:
    """Why a broker's certificate cannot be verified, as OpenSSL says it; None if it can, or is unknown."""
    for host, port in _addresses(servers):
        try:
            context = _verifying(options)
            with (
                socket.create_connection((host, port), timeout=_PATIENCE) as plain,
                context.wrap_socket(plain, server_hostname=host),
            ):
                pass
        except ssl.SSLCertVerificationError as exc:
            return re.sub(r"\.$", "", exc.verify_message)
        except (OSError, ValueError):
            continue
    return None


def _verifying(options: Mapping[str, str]) -> ssl.SSLContext:
    """A context that verifies a broker as librdkafka does with these options."""
    place, pem = options.get("ssl.ca.location"), options.get("ssl.ca.pem")
    if pem:
        context = ssl.create_default_context(cadata=pem)
    elif place and place != "probe":
        context = ssl.create_default_context()
        context.load_verify_locations(**{"capath" if Path(place).is_dir() else "cafile": place})
    else:
        context = ssl.create_default_context()
    context.check_hostname = options.get(_TLS_NAMES, "https").lower() == "https"
    return context


def _addresses(servers: str) -> Iterator[tuple[str, int]]:
    """The host and port of each broker of a list; Kafka's own port where it names none."""
    for address in servers.split(","):
        found = re.fullmatch(r"(\[[^]]*\]|[^:]*)(?::(\d+))?", address.rpartition("://")[2].strip())
        if found:
            yield found[1].strip("[]"), int(found[2] or 9092)


def _conversation(host: str, port: int, *, tls: bool) -> str | None:
    """Ask for the API versions, which every broker answers, then for the topics; return how that ended."""
    try:
        with (
            socket.create_connection((host, port), timeout=_PATIENCE) as plain,
            _wrapped(plain) if tls else plain as line,
        ):
            line.sendall(_request(18, b""))
            if _answer_kind(line) != "answers":
                return None
            line.sendall(_request(3, struct.pack(">i", 0)))
            return _answer_kind(line)
    except (OSError, ValueError):
        return None


def _wrapped(plain: socket.socket) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the probe sends no secrets
    return context.wrap_socket(plain)


def _request(key: int, body: bytes) -> bytes:
    head = struct.pack(">hhih", key, 0, 1, -1)  # version 0, correlation 1, no client's name
    return struct.pack(">i", len(head) + len(body)) + head + body


def _answer_kind(line: socket.socket) -> str:
    got = b""
    try:
        while len(got) < 8:
            piece = line.recv(64 * 1024)
            if not piece:
                return "hangs up"
            got += piece
    except TimeoutError:
        return "takes its time"
    except OSError:
        return "hangs up"
    size, correlation = struct.unpack(">ii", got[:8])
    return "answers" if correlation == 1 and 0 < size < 100_000_000 else "talks of something else"
