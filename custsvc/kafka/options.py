"""The librdkafka options that `CUSTSVC_KAFKA_OPTIONS__…` may set, and clients made with them.

librdkafka itself reports a wrong option; this module turns that into an error that names the variable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
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
    return ConfigurationError(
        f"the options of Kafka are wrong: {reason}", fix="correct CUSTSVC_KAFKA_OPTIONS__*"
    )


def _reason(exc: Exception) -> str:
    text = exc.args[0].str() if isinstance(exc, KafkaException) else str(exc)
    return " ".join(re.sub(r"^Failed to create [a-z ]+: ", "", text).split())
