"""Translates librdkafka's errors into ours, with the true reason: a failed call only says "no broker".

librdkafka reports the reason, such as a wrong password or certificate, to an error callback when a client is
polled. This module notes it by the cluster's address, and adds it to the next failure.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException

from ..errors import CustsvcError, NotAllowed, RecordTooLarge, TemporaryError, Unusable
from . import probe, reasons

# Log a broker that is away at most once in this many seconds, not at every try.
_QUIET: Final = 10.0
# An older report belongs to another failure.
_RECENT: Final = 15.0


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


def _is_refusal(error: KafkaError) -> bool:
    """Whether waiting repairs nothing."""
    if reasons.is_alert(error.str()):  # librdkafka takes it for a lost connection
        return True
    return error.code() in _REFUSED and not reasons.is_outage(error.str())


class _Reported(NamedTuple):
    """An error that librdkafka reported about a cluster, and when."""

    error: KafkaError
    at: float

    @property
    def is_refusal(self) -> bool:
        return _is_refusal(self.error)

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
    if known is None or not known.is_recent or _is_refusal(error) or not known.is_refusal:
        _reported[servers] = _Reported(error, time.monotonic())


END_OF_PARTITION: Final = KafkaError._PARTITION_EOF
"""Not an error: a consumer has reached the end of a partition. The event's offset is that of the next record,
which may be far beyond the last one: transaction markers take offsets but are not returned to a reader."""


def is_passing(error: KafkaError) -> bool:
    """Whether librdkafka recovers from a consumer's error by itself; logs such an error."""
    if error.code() == END_OF_PARTITION:
        return True
    if error.fatal() or _is_refusal(error):
        return False
    _log(error)
    return True


def _log(error: KafkaError) -> None:
    librdkafka.warning("%s: %s", error.name(), error.str(), extra={"action": "kafka_error"})


def refusal(servers: str) -> Unusable | None:
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
    if _is_refusal(error):
        return _refused(servers, error.str())
    # A record that is refused is a gap in what an idempotent producer sends.
    if error.code() == KafkaError._GAPLESS_GUARANTEE and reasons.is_forbidden(error.str()):
        return NotAllowed(
            f"Kafka at {servers} refuses: {reasons.plain(error.str())}",
            dependency="kafka",
            fix=reasons.fix(error.str()),
        )
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE or reasons.is_too_large(error.str()):
        return RecordTooLarge(
            f"Kafka at {servers} refuses a record: it is bigger than its topic takes",
            dependency="kafka",
            fix="raise max.message.bytes of the topic",
        )
    reported = _reported.get(servers)
    if error.code() not in _AWAY or reported is None or not reported.is_recent:
        reported = None
    if reported is not None and reported.is_refusal:
        return _refused(servers, reported.error.str())
    reason = (reported.error if reported else error).str()
    if reasons.is_outage(reason):
        return TemporaryError(
            f"cannot sign in to Kafka at {servers}: {reasons.plain(reason)}",
            dependency="kafka",
            fix=reasons.PROVIDER,
        )
    return TemporaryError(
        f"cannot reach Kafka at {servers} ({reasons.plain(reason)})",
        dependency="kafka",
        fix="start Kafka there, or correct CUSTSVC_KAFKA",
    )


def _refused(servers: str, reason: str) -> Unusable:
    if reasons.is_unverified(reason):
        reason = probe.certificate_problem(servers, _options.get(servers, {})) or reason
    return Unusable(
        f"Kafka at {servers} refuses: {reasons.plain(reason)}", fix=reasons.fix(reason), dependency="kafka"
    )


def mismatch(servers: str) -> Unusable | None:
    """Probe a cluster that does not answer; return the error if our clients use the wrong protocol."""
    reason = probe.mismatch(servers, _options.get(servers, {}))
    return _refused(servers, reason) if reason else None


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
