"""Translates librdkafka's errors into ours, with the true reason: a failed call only says "no broker".

librdkafka reports the reason, such as a wrong password or certificate, to an error callback when a client is
polled. This module notes it by the cluster's address, and adds it to the next failure.
"""

from __future__ import annotations

import logging
import re
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException

from ..errors import ConfigurationError, CustsvcError, TemporaryError

# Log a broker that is away at most once in this many seconds, not at every try.
_QUIET: Final = 10.0
# An older report belongs to another failure.
_RECENT: Final = 15.0
_PROBE: Final = 3.0


class _Throttle(logging.Filter):
    """Lets each kind of message pass once in a while; the kind is its first characters.

    Drops what is harmless and comes with a start: that a property we chose is experimental, and that a broker
    which has just started is asked once more for the id of a producer.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if text.startswith("CONFWARN") or (text.startswith("GETPID") and text.endswith(": retrying")):
            return False
        kind, now = text[:12], time.monotonic()
        if now - self._last.get(kind, -_QUIET) < _QUIET:
            return False
        self._last[kind] = now
        return True


librdkafka: Final = logging.getLogger("custsvc.librdkafka")
librdkafka.addFilter(_Throttle())

_REFUSED: Final = (
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError._INVALID_ARG,
    KafkaError._SSL,
)
# The errors of a call that has reached no broker.
_AWAY: Final = (
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
)


class _Reported(NamedTuple):
    """An error that librdkafka reported about a cluster, and when."""

    error: KafkaError
    at: float

    @property
    def is_refusal(self) -> bool:
        return self.error.code() in _REFUSED

    @property
    def is_recent(self) -> bool:
        return time.monotonic() - self.at < _RECENT


_reported: dict[str, _Reported] = {}
_options: dict[str, dict[str, str]] = {}  # the options of our clients, by the cluster's address


def note_options(servers: str, options: Mapping[str, str]) -> None:
    """Note the options of our clients for a cluster. Drop its last error if they have changed."""
    if _options.get(servers, {}) != options:
        _reported.pop(servers, None)
    _options[servers] = dict(options)


def note(servers: str, error: KafkaError) -> None:
    """Note and log an error from librdkafka's callback. librdkafka recovers from these by itself."""
    _log(error)
    known = _reported.get(servers)
    if error.code() == KafkaError._ALL_BROKERS_DOWN:
        return  # does not name the reason
    if known is None or not known.is_recent or error.code() in _REFUSED or not known.is_refusal:
        _reported[servers] = _Reported(error, time.monotonic())


END_OF_PARTITION: Final = KafkaError._PARTITION_EOF
"""Not an error: a consumer has reached the end of a partition. The event's offset is that of the next record,
which may be far beyond the last one: transaction markers take offsets but are not returned to a reader."""


def is_passing(error: KafkaError) -> bool:
    """Whether librdkafka recovers from a consumer's error by itself; logs such an error."""
    if error.code() == END_OF_PARTITION:
        return True
    if error.fatal() or error.code() in _REFUSED:
        return False
    _log(error)
    return True


def _log(error: KafkaError) -> None:
    librdkafka.warning("%s: %s", error.name(), error.str(), extra={"action": "kafka_error"})


def refusal(servers: str) -> ConfigurationError | None:
    """The error for a permanent refusal by the cluster that was reported in the last seconds, or None."""
    reported = _reported.get(servers)
    return (
        _refused(servers, reported.error.str())
        if reported and reported.is_recent and reported.is_refusal
        else None
    )


def failure(exc: KafkaException | KafkaError, servers: str) -> CustsvcError:
    """Translate an error of librdkafka into ours."""
    error = exc.args[0] if isinstance(exc, KafkaException) else exc
    if error.code() in _REFUSED:
        return _refused(servers, error.str())
    reported = _reported.get(servers)
    if error.code() not in _AWAY or reported is None or not reported.is_recent:
        reported = None
    if reported is not None and reported.is_refusal:
        return _refused(servers, reported.error.str())
    return TemporaryError(
        f"cannot reach Kafka at {servers} ({_plain((reported.error if reported else error).str())})",
        dependency="kafka",
        fix="start Kafka there, or correct CUSTSVC_KAFKA",
    )


def _refused(servers: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"Kafka at {servers} refuses: {_plain(reason)}",
        fix="correct CUSTSVC_KAFKA and CUSTSVC_KAFKA_OPTIONS__*",
    )


def _plain(reason: str) -> str:
    """The reason without the broker's name at its beginning and the state machine's state at its end."""
    reason = re.sub(r"^\S+/(bootstrap|\d+): ", "", reason.strip())
    return re.sub(r" \(after \d+ms in state \w+\)", "", reason)


@contextmanager
def first_contact(client: Any, servers: str) -> Iterator[None]:
    """Translate the error of a client's first call, with the reason that its callback reports."""
    try:
        yield
    except KafkaException as exc:
        client.poll(0)
        found = failure(exc, servers)
        if isinstance(found, TemporaryError) and exc.args[0].code() in _AWAY:
            found = mismatch(servers) or found
        raise found from exc


# A broker that is spoken to by the wrong protocol closes the connection without an answer.


def mismatch(servers: str) -> ConfigurationError | None:
    """Probe a cluster that does not answer; return the error if our clients use the wrong protocol.

    It probes twice: a broker that goes down meanwhile closes the connection as well.
    """
    reason = _mismatch(servers, _protocol(servers))
    again = reason and _mismatch(servers, _protocol(servers))
    return _refused(servers, reason) if reason and reason == again else None


def _protocol(servers: str) -> str:
    return _options.get(servers, {}).get("security.protocol", "plaintext").lower()


def _mismatch(servers: str, protocol: str) -> str | None:
    """The protocol that the port speaks, if it differs from `security.protocol`."""
    tls, sasl = protocol.endswith("ssl"), protocol.startswith("sasl")
    for address in servers.split(","):
        host, _, port = address.rpartition("://")[2].strip().rpartition(":")
        if not port.isdigit():
            continue
        for by_tls in (False, True):
            heard = _conversation(host.strip("[]"), int(port), tls=by_tls)
            if heard is None:
                continue
            if by_tls != tls:
                speaks = "TLS" if by_tls else "clear text"
                return f"that port speaks {speaks}, but security.protocol is {protocol}"
            if heard == "hangs up" and not sasl:
                return f"that port asks for a sign-in, but security.protocol is {protocol}"
            return None
    return None


def _conversation(host: str, port: int, *, tls: bool) -> str | None:
    """Ask for the API versions, which every broker answers, then for the topics; return how that ended."""
    try:
        with (
            socket.create_connection((host, port), timeout=_PROBE) as plain,
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
