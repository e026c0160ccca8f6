"""Finds the protocol of a MongoDB that closes connections silently: the driver reports no reason.

It probes only after a connection failed. The protocol that a port speaks is certain; an outage shows nothing.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any, Final, NamedTuple

import bson
from pymongo.uri_parser import parse_uri

_TIMEOUT: Final = 1.0
_OP_MSG: Final = 2013
_REQUEST: Final = 1


class Mismatch(NamedTuple):
    """A wrong protocol or certificate, as a reason; not `is_sure` if an outage looks the same."""

    reason: str
    is_sure: bool = True


_CERTIFICATE: Final = Mismatch(
    "the server hangs up after the TLS handshake: it may want a certificate of its clients, or another one",
    is_sure=False,
)


def mismatch(url: str) -> Mismatch | None:
    """Probe the hosts of this valid URL; return how its protocol differs from theirs, or None."""
    if not url.startswith("mongodb://"):
        return None  # the hosts are in the DNS, and they speak TLS
    parsed = parse_uri(url)
    options = parsed["options"]
    tls = options.get("tls", False)
    for host, port in parsed["nodelist"]:
        with suppress(OSError, ValueError):
            clear = _speaks_clear_text((host, port or 27017))
            closes = _hangs_up_after_handshake((host, port or 27017), options)
            if tls and clear and closes is None:
                return Mismatch("that port speaks clear text, but tls= is set")
            if not tls and not clear and closes is not None:
                return Mismatch("that port speaks TLS, and tls= is not set")
            return _CERTIFICATE if tls and closes else None
    return None


def _hangs_up_after_handshake(address: tuple[str, int], options: Mapping[str, Any]) -> bool | None:
    """Whether the server closes TLS right after the handshake, as for a bad certificate; None without TLS."""
    with closing(socket.create_connection(address, timeout=_TIMEOUT)) as line:
        try:
            wrapped = _context(options).wrap_socket(line)
        except OSError:
            return None
        with wrapped:
            try:
                return wrapped.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True


def _speaks_clear_text(address: tuple[str, int]) -> bool:
    """Whether the server answers `hello` in clear text; that needs no sign-in."""
    body = struct.pack("<iB", 0, 0) + bson.encode({"hello": 1, "$db": "admin"})
    with closing(socket.create_connection(address, timeout=_TIMEOUT)) as line:
        try:
            line.sendall(struct.pack("<iiii", 16 + len(body), _REQUEST, 0, _OP_MSG) + body)
            head = line.recv(16, socket.MSG_WAITALL)
        except OSError:
            return False
    return len(head) == 16 and struct.unpack("<iiii", head)[2:] == (_REQUEST, _OP_MSG)


def _context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """With our certificate, if there is one. Does not verify the server's: the probe sends no secrets."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if file := options.get("tlsCertificateKeyFile"):
        context.load_cert_chain(file, password=options.get("tlsCertificateKeyFilePassword"))
    return context
