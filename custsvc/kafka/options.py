"""The librdkafka options that `CUSTSVC_KAFKA_OPTIONS__…` may set, and clients made with them.

librdkafka itself reports a wrong option; this module turns that into an error that names the variable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from ..config import Settings
from ..errors import ConfigurationError

Client = TypeVar("Client", AdminClient, Consumer, Producer)

# Options that our guarantees rely on, or that have their own setting, with the only value allowed.
_FIXED: Final[Mapping[str, tuple[str, str]]] = {
    "bootstrap.servers": ("", "set CUSTSVC_KAFKA"),
    "metadata.broker.list": ("", "set CUSTSVC_KAFKA"),
    "group.id": ("", "a role has its own group"),
    "group.instance.id": ("", "set CUSTSVC_INSTANCE_ID"),
    "transactional.id": ("", "leave it out: the order of events needs no transactions"),
    "enable.idempotence": ("true", "leave it out: without it events are doubled and change places"),
    "enable.gapless.guarantee": ("true", "leave it out: without it events change places"),
    "acks": ("all", "leave it out: with less an event can be lost"),
    "request.required.acks": ("all", "leave it out: with less an event can be lost"),
    "message.timeout.ms": ("0", "leave it out: an event is never given up"),
    "delivery.timeout.ms": ("0", "leave it out: an event is never given up"),
    "partitioner": ("murmur2_random", "leave it out: a customer must stay in one partition"),
    "delivery.report.only.error": ("true", "leave it out"),
    "enable.auto.commit": ("false", "leave it out: a position is committed when its work is done"),
    "enable.auto.offset.store": ("false", "leave it out: a position is committed when its work is done"),
    "auto.offset.reset": ("", "leave it out: a copy that lost its place must not jump"),
    "enable.partition.eof": ("true", "leave it out"),
    "partition.assignment.strategy": ("cooperative-sticky", "leave it out"),
}
_SAME: Final[Mapping[str, str]] = {"-1": "all", "1": "true", "t": "true", "f": "false"}
# What librdkafka says of an option with a certificate or a key.
_FAILED: Final = re.compile(r"(ssl\.(?:ca|key|certificate|crl)\.(?:location|pem)) failed: (.*)")
_MANDATORY: Final = re.compile(r"`([a-z.]+)` is mandatory ")
_KEY_PASSWORD: Final = "ssl.key.password"  # noqa: S105 - the name of an option
_COMPLAINTS: Final = (KafkaException, TypeError, ValueError, AttributeError)


def check(settings: Settings, *configs: Mapping[str, Any]) -> None:
    """Raise ConfigurationError if an option is wrong. Connects to nothing.

    `configs` are those of the clients that will be made.
    """
    for name, value in settings.kafka_options.items():
        if name in _FIXED:
            only, fix = _FIXED[name]
            if not only or _SAME.get(value.lower(), value.lower()) != only:
                raise ConfigurationError(f"{variable(name)} cannot be set to {value}", fix=fix)
    for config in configs:
        nowhere = {**config, "bootstrap.servers": ""}
        if "group.id" in config:
            make(Consumer, nowhere, settings.kafka_options).close()
        else:
            make(Producer, nowhere, settings.kafka_options)


def variable(option: str) -> str:
    """The environment variable of an option."""
    return "CUSTSVC_KAFKA_OPTIONS__" + option.replace(".", "_").upper()


def make(
    kind: Callable[[dict[str, Any]], Client], config: Mapping[str, Any], options: Mapping[str, str]
) -> Client:
    """Make a client of this kind. Raises ConfigurationError that names the option it refuses."""
    try:
        return kind(dict(config))
    except _COMPLAINTS as exc:
        raise _wrong(_reason(exc), options) from exc


def _wrong(reason: str, options: Mapping[str, str]) -> ConfigurationError:
    """Name the option that causes the same error alone, in a producer; if none does, blame all of them."""
    for name, value in options.items():
        try:
            Producer({name: value, "log_level": 0})
        except _COMPLAINTS as exc:
            if _reason(exc) == reason:
                fix = f"correct {variable(name)}; librdkafka's CONFIGURATION.md has all that there are"
                return ConfigurationError(f"{variable(name)} is wrong: {reason}", fix=fix)
    if named := _FAILED.match(reason):
        detail, wrong = _about(named[1], named[2], options)
        return ConfigurationError(
            f"{variable(named[1])} is wrong: {detail}", fix=f"correct {variable(wrong)}"
        )
    if "sasl.password must be set" in reason:
        fix = (
            f"give user and password in CUSTSVC_KAFKA, or set {variable('sasl.username')} and …SASL_PASSWORD"
        )
        return ConfigurationError(f"the options of Kafka are wrong: {reason}", fix=fix)
    if named := _MANDATORY.match(reason):
        return ConfigurationError(
            f"{variable(named[1])} is not set: {reason}", fix=f"set {variable(named[1])} (docs/kafka.md)"
        )
    return ConfigurationError(
        f"the options of Kafka are wrong: {reason}", fix="correct CUSTSVC_KAFKA_OPTIONS__*"
    )


def _about(name: str, reason: str, options: Mapping[str, str]) -> tuple[str, str]:
    """Why OpenSSL takes no certificate or key from this option, and the option to correct."""
    text = options.get(name, "")
    if name.endswith(".location"):
        try:
            text = Path(text).read_text(encoding="latin-1")
        except OSError as exc:
            return f"{name} names {text}, which cannot be read ({exc.strerror})", name
    if "values mismatch" in reason:
        return f"the key of {name} does not belong to the certificate", name
    if "-----BEGIN" not in text:
        return f"what {name} gives is not PEM: it has no line -----BEGIN", name
    if "ENCRYPTED" in text and name.startswith("ssl.key"):
        what = "is wrong" if options.get(_KEY_PASSWORD) else "is not set"
        return f"its key has a password, and {variable(_KEY_PASSWORD)} {what}", _KEY_PASSWORD
    return f"{name} failed: {reason}", name


def _reason(exc: Exception) -> str:
    text = exc.args[0].str() if isinstance(exc, KafkaException) else str(exc)
    return " ".join(re.sub(r"^Failed to create [a-z ]+: ", "", text).split())
