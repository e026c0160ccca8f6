"""The value of a setting from its text, or an error that says what is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from .. import redact
from ..errors import BadArgument, ConfigurationError
from .kafka_address import KafkaAddress
from .setting import Setting, env_name

# Settings of one role have a family in their name, which its flags leave out: http_port is --port.
_FAMILY: Final = re.compile(r"^(http|notify|metrics|history)_")
_DAYS: Final = re.compile(r"[0-9]{1,5}d", re.ASCII)
_GROUP_PREFIX: Final = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)
_NO_PORT: Final = re.compile(r":(?!//)(?!\d*(?:,|$))[^,]*")
_BOOLEANS: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


def convert(setting: Setting, raw: Any, origin: str) -> Any:
    """The value of a setting from its text. Raises ConfigurationError, which says what is allowed."""
    if isinstance(setting.default, Mapping):
        return _options(setting.name, raw, origin)
    value = _typed(setting, raw, origin)
    if setting.name == "log_level":
        value = value.upper()
    if setting.name == "kafka":
        _check_kafka(value, origin)
    if setting.words and value not in setting.words:
        raise _wrong(setting, raw, origin, " or ".join(setting.words))
    if setting.limits and not setting.limits[0] <= value <= setting.limits[1]:
        raise _wrong(setting, raw, origin, "a number from {:g} to {:g}".format(*setting.limits))
    try:
        if setting.check:
            setting.check(value)
    except ValueError as exc:
        raise _wrong(setting, raw, origin, str(exc)) from exc
    return value


def _typed(setting: Setting, raw: Any, origin: str) -> Any:
    to: Callable[[Any], Any] = str
    if isinstance(setting.default, bool):
        to = _boolean if isinstance(raw, str) else bool
    elif isinstance(setting.default, (int, float, Path)):
        to = type(setting.default)
    try:
        return to(raw)
    except (ValueError, KeyError, TypeError) as exc:
        raise _wrong(setting, raw, origin, _KINDS.get(to, "a text")) from exc


def _boolean(text: str) -> bool:
    return _BOOLEANS[text.strip().lower()]


_KINDS: Final[dict[Any, str]] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    _boolean: "true or false",
    Path: "a path",
}


def check_history_keep(text: str) -> None:
    """Check that this is empty or a number of days, as 90d. Raises ValueError."""
    # Imports can be undone for seven days, and an undo reads the history.
    if text and not (_DAYS.fullmatch(text) and 8 <= int(text[:-1]) <= 36500):
        raise ValueError("8d to 36500d, a number of days")


def check_group_prefix(text: str) -> None:
    """Check that a consumer group's name can begin like this. Raises ValueError."""
    if not _GROUP_PREFIX.fullmatch(text):
        raise ValueError("1 to 100 letters, digits, dots, dashes and underscores of ASCII")


def check_replication(factor: int) -> None:
    """Check that this is a number of brokers, or -1. Raises ValueError."""
    if factor == 0:
        raise ValueError("a number from 1 to 15, or -1")


def _check_kafka(address: str, origin: str) -> None:
    try:
        if address:
            KafkaAddress.parse(address)
    except ValueError as exc:
        raise wrong_kafka(address, origin, exc) from exc


def wrong_kafka(address: str, origin: str, why: ValueError) -> ConfigurationError:
    """The error about an address of Kafka, without its password."""
    # A text after a colon that is not a port may be a password.
    shown = redact.MASK if "@" in address else repr(_NO_PORT.sub(f":{redact.MASK}", address))
    return ConfigurationError(
        f"{env_name('kafka')} is {shown} ({origin}): {why}",
        fix=f"correct {env_name('kafka')}, or give user and password by CUSTSVC_KAFKA_OPTIONS__SASL_USERNAME "
        "and CUSTSVC_KAFKA_OPTIONS__SASL_PASSWORD",
    )


def _options(table: str, raw: Any, origin: str, prefix: str = "") -> dict[str, str]:
    """Properties of a client from a table; TOML reads `sasl.username = …` as a nested table."""
    if not isinstance(raw, Mapping):
        raise ConfigurationError(
            f"{table} in {origin} is not a table",
            fix=f'write it as [{table}] and "name" = "value"',
        )
    found: dict[str, str] = {}
    for key, value in raw.items():
        name = f"{prefix}{option_name(str(key))}"
        if isinstance(value, Mapping):
            found |= _options(table, value, origin, f"{name}.")
        elif isinstance(value, bool):
            found[name] = "true" if value else "false"
        elif isinstance(value, str | int | float):
            found[name] = str(value)
        else:
            raise ConfigurationError(
                f"{name} of {table} in {origin} is a {type(value).__name__}", fix="give it as text"
            )
    return found


def option_name(name: str) -> str:
    """The name of a property. Only `log_level` has an underscore."""
    return name.lower().replace("_", ".").replace("log.level", "log_level")


def _wrong(setting: Setting, raw: Any, origin: str, right: str) -> ConfigurationError:
    shown = "***" if setting.secret else repr(raw)
    if origin == "flag":
        flag = "--" + _FAMILY.sub("", setting.name).replace("_", "-")
        return BadArgument(f"{flag} is {shown}, but it must be {right}", fix=f"give {flag} {right}")
    return ConfigurationError(
        f"{env_name(setting.name)} is {shown} ({origin}), but it must be {right}",
        fix=f"set {env_name(setting.name)} to {right}",
    )
