"""Our errors for librdkafka's, with the true reason: a call that fails only says that no broker was reached.

What kept it from one, a wrong password or certificate, librdkafka tells aside, whenever a client is polled.
That is noted here by the address of the cluster, and told with the failure that comes next.
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

# A broker that is away is worth a line now and then, not one for every try.
_QUIET: Final = 10.0
# What was told longer ago belongs to another failure.
_RECENT: Final = 15.0
_PROBE: Final = 3.0


class _Seldom(logging.Filter):
    """Lets each kind of message pass once in a while; the kind is how it begins.

    That a property we chose is experimental is told at each start of librdkafka and is nobody's concern.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.getMessage().startswith("CONFWARN"):
            return False
        kind, now = record.getMessage()[:12], time.monotonic()
        if now - self._last.get(kind, -_QUIET) < _QUIET:
            return False
        self._last[kind] = now
        return True


librdkafka: Final = logging.getLogger("custsvc.librdkafka")
librdkafka.addFilter(_Seldom())

_REFUSED: Final = (
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError._INVALID_ARG,
    KafkaError._SSL,
)
# How a call fails that has found no broker.
_AWAY: Final = (
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
)


class _Told(NamedTuple):
    """What librdkafka told of a cluster, and when."""

    error: KafkaError
    at: float

    @property
    def is_refusal(self) -> bool:
        return self.error.code() in _REFUSED

    @property
    def is_recent(self) -> bool:
        return time.monotonic() - self.at < _RECENT


_told: dict[str, _Told] = {}
_spoken: dict[str, dict[str, str]] = {}  # the options of our clients, by the cluster's address


def spoken_to(servers: str, options: Mapping[str, str]) -> None:
    """Note how our clients speak to a cluster. What it told of other options is no reason any more."""
    if _spoken.get(servers, {}) != options:
        _told.pop(servers, None)
    _spoken[servers] = dict(options)


def note(servers: str, error: KafkaError) -> None:
    """Take in what librdkafka tells aside. It mends these by itself; they are only logged."""
    _log(error)
    known = _told.get(servers)
    if error.code() == KafkaError._ALL_BROKERS_DOWN:
        return  # says nothing of the reason
    if known is None or not known.is_recent or error.code() in _REFUSED or not known.is_refusal:
        _told[servers] = _Told(error, time.monotonic())


END_OF_PARTITION: Final = KafkaError._PARTITION_EOF
"""Not an error: a consumer has read all that there is. The event's offset is where the next record will be,
which may be far behind the last one: an end may hold the marks of transactions, and nothing for a reader."""


def is_passing(error: KafkaError) -> bool:
    """Whether a consumer's error is one that librdkafka mends by itself: told, and no more."""
    if error.code() == END_OF_PARTITION:
        return True
    if error.fatal() or error.code() in _REFUSED:
        return False
    _log(error)
    return True


def _log(error: KafkaError) -> None:
    librdkafka.warning("%s: %s", error.name(), error.str(), extra={"action": "kafka_error"})


def refusal(servers: str) -> ConfigurationError | None:
    """What was told of a cluster a moment ago, where no waiting mends it."""
    told = _told.get(servers)
    return _refused(servers, told.error.str()) if told and told.is_recent and told.is_refusal else None


def failure(exc: KafkaException | KafkaError, servers: str) -> CustsvcError:
    """Our error for one of librdkafka's."""
    error = exc.args[0] if isinstance(exc, KafkaException) else exc
    if error.code() in _REFUSED:
        return _refused(servers, error.str())
    told = _told.get(servers)
    if error.code() not in _AWAY or told is None or not told.is_recent:
        told = None
    if told is not None and told.is_refusal:
        return _refused(servers, told.error.str())
    return TemporaryError(
        f"cannot reach Kafka at {servers} ({_plain((told.error if told else error).str())})",
        dependency="kafka",
        fix="start Kafka there, or correct CUSTSVC_KAFKA",
    )


def _refused(servers: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"Kafka at {servers} refuses: {_plain(reason)}",
        fix="correct CUSTSVC_KAFKA and CUSTSVC_KAFKA_OPTIONS__*",
    )


def _plain(reason: str) -> str:
    """Without the broker's name in front, which is the address again, and the state machine behind."""
    reason = re.sub(r"^\S+/(bootstrap|\d+): ", "", reason.strip())
    return re.sub(r" \(after \d+ms in state \w+\)", "", reason)


@contextmanager
def first_contact(client: Any, servers: str) -> Iterator[None]:
    """Translate what the first call of a client raises, with the reason that waits in it to be told."""
    try:
        yield
    except KafkaException as exc:
        client.poll(0)
        found = failure(exc, servers)
        if isinstance(found, TemporaryError) and exc.args[0].code() in _AWAY:
            found = mismatch(servers) or found
        raise found from exc


# A broker that is spoken to in a wrong way hangs up without a word.


def mismatch(servers: str) -> ConfigurationError | None:
    """What is wrong with how our clients speak to a cluster that does not answer them; it is asked now.

    Twice: a broker that goes down in the middle hangs up as well.
    """
    reason = _mismatch(servers, _protocol(servers))
    again = reason and _mismatch(servers, _protocol(servers))
    return _refused(servers, reason) if reason and reason == again else None


def _protocol(servers: str) -> str:
    return _spoken.get(servers, {}).get("security.protocol", "plaintext").lower()


def _mismatch(servers: str, protocol: str) -> str | None:
    """How the port wants to be spoken to, where that is not how `security.protocol` has it."""
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
    """Ask for the versions it knows, which every broker tells, then for its topics: what comes of it."""
    try:
        with (
            socket.create_connection((host, port), timeout=_PROBE) as plain,
            _wrapped(plain) if tls else plain as line,
        ):
            line.sendall(_request(18, b""))
            if _heard(line) != "answers":
                return None
            line.sendall(_request(3, struct.pack(">i", 0)))
            return _heard(line)
    except (OSError, ValueError):
        return None


def _wrapped(plain: socket.socket) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing secret is said
    return context.wrap_socket(plain)


def _request(key: int, body: bytes) -> bytes:
    head = struct.pack(">hhih", key, 0, 1, -1)  # version 0, correlation 1, no client's name
    return struct.pack(">i", len(head) + len(body)) + head + body


def _heard(line: socket.socket) -> str:
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
