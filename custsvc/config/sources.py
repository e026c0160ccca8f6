"""Reads the settings from their sources: files, the environment and the command line's flags."""

from __future__ import annotations

import difflib
import logging
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigurationError
from .setting import PREFIX, Setting, env_name
from .values import convert, option_name

logger = logging.getLogger(__name__)

# Read by `custsvc.local` and by tests, not settings of a role.
OTHER_NAMES: Final = frozenset({"LOCAL", "PARENT_PID", "CRASH_AT", "CACHE_DIR", "CONFIG"})
_TEST_PREFIX: Final = PREFIX + "TEST_"

# Settings that are tables of options: a variable for each, as CUSTSVC_KAFKA_OPTIONS__SASL_USERNAME.
_OPTIONS: Final = {"KAFKA_OPTIONS": "SASL_USERNAME", "SCHEMA_REGISTRY_OPTIONS": "SSL_CA_LOCATION"}
_TABLES: Final = frozenset(map(str.lower, _OPTIONS))
# Properties of librdkafka that end in .file and do not name the file of a secret.
_OPTIONS_OF_FILES: Final = frozenset(
    {"sasl.oauthbearer.assertion.private.key.file", "sasl.oauthbearer.assertion.jwt.template.file"}
)

# The variables of the original services, so that their deployments keep working.
_ORIGINAL_NAMES: Final = {
    "MICROSERVICES_KafkaService__Servers": "KAFKA",
    "MICROSERVICES_KafkaService__Topic": "TOPIC_UPDATES",
    "MICROSERVICES_MongoDB__Url": "MONGO_URL",
}


def read(
    known: Mapping[str, Setting], environ: Mapping[str, str], flags: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The values that the sources give, and the source of each. A flag that is None is not given.

    Raises ConfigurationError, which names the source, the value and what is allowed.
    """
    # From the weakest to the strongest.
    sources: list[tuple[str, Mapping[str, Any]]] = [
        ("original environment", _originals(environ)),
        ("custsvc.toml", _from_toml(environ.get(PREFIX + "CONFIG", ""), known)),
        (".env", _from_environment(_dotenv(), ".env", known)),
        ("environment", _from_environment(environ, "environment", known)),
        ("flag", {k: v for k, v in flags.items() if v is not None}),
    ]
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, source in sources:
        for name, raw in source.items():
            value = convert(known[name], raw, origin)
            # An option overrides only the same option of an earlier source.
            values[name] = {**values.get(name, {}), **value} if name in _TABLES else value
            origins[name] = origin
    return values, origins


def _originals(environ: Mapping[str, str]) -> dict[str, str]:
    found = {ours.lower(): environ[name] for name, ours in _ORIGINAL_NAMES.items() if name in environ}
    if found:
        names = ", ".join(name for name in _ORIGINAL_NAMES if name in environ)
        logger.warning("Reading the original services' variables: %s", names, extra={"action": "config"})
    return found


def _dotenv() -> dict[str, str]:
    from io import StringIO

    from dotenv import dotenv_values

    path = Path(".env")
    found = dotenv_values(stream=StringIO(_text_of(path))) if path.is_file() else {}
    return {name: value for name, value in found.items() if value is not None}


def _from_toml(named: str, known: Mapping[str, Setting]) -> dict[str, Any]:
    """The settings of the file that is named, which must be there; else of custsvc.toml, if there is one."""
    path = Path(named or "custsvc.toml")
    if not named and not path.is_file():
        return {}
    try:
        table = tomllib.loads(_text_of(path))
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(f"{path} is not valid TOML: {exc}", fix=f"correct {path}") from exc
    for name in table:
        if name not in known:
            raise _unknown(name, str(path), known)
    return table


def _text_of(path: Path) -> str:
    """A file of settings, with or without the mark that Windows puts before UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ConfigurationError(f"{path} is not UTF-8", fix=f"save {path} as UTF-8") from exc
    except OSError as exc:
        raise ConfigurationError(
            f"{path} cannot be read ({exc.strerror})", fix=f"make {path} readable, or correct {PREFIX}CONFIG"
        ) from exc


def _from_environment(
    environ: Mapping[str, str], origin: str, known: Mapping[str, Setting]
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    options: dict[str, dict[str, str]] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable.startswith(_TEST_PREFIX):
            continue
        name = variable.removeprefix(PREFIX)
        table, sign, option = name.partition("__")
        if sign and table in _OPTIONS:
            option = option_name(option)
            if option.endswith(".file") and option not in _OPTIONS_OF_FILES:
                option, text = option.removesuffix(".file"), _read_secret(variable, text)
            options.setdefault(table.lower(), {})[option] = text
        elif name.lower() in known and name.lower() not in _TABLES:
            values.setdefault(name.lower(), text)
        elif name.endswith("_FILE") and name.removesuffix("_FILE").lower() in {*known} - _TABLES:
            values[name.removesuffix("_FILE").lower()] = _read_secret(variable, text)
        elif name.removesuffix("_FILE") in _OPTIONS:
            table = name.removesuffix("_FILE")
            raise ConfigurationError(
                f"{variable} in the {origin} does not name an option",
                fix=f"set a variable for each option, as {PREFIX}{table}__{_OPTIONS[table]}",
            )
        elif name not in OTHER_NAMES:
            raise _unknown(variable, f"the {origin}", [env_name(f) for f in known])
    return values | options


def _read_secret(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise ConfigurationError(
            f"{variable} names {path}, which cannot be read ({why})",
            fix=f"make {path} readable, or set {variable.removesuffix('_FILE')} itself",
        ) from exc


def _unknown(name: str, where: str, known: Iterable[str]) -> ConfigurationError:
    near = difflib.get_close_matches(name, list(known), n=1)
    return ConfigurationError(
        f"unknown setting {name} in {where}",
        fix=f"did you mean {near[0]}?" if near else "see `custsvc config show` for all names",
    )
