"""What is known about one setting beside its value."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, get_args, get_type_hints

PREFIX = "CUSTSVC_"


class Setting(NamedTuple):
    """One setting: its name, its default, what it is, and which values it may have."""

    name: str
    default: Any
    doc: str
    secret: bool = False
    limits: tuple[float, float] | None = None
    words: tuple[str, ...] = ()
    """All values that are allowed; empty if any text or number is."""
    check: Callable[[Any], None] | None = None
    """Raises ValueError, which says what is allowed."""


def setting(
    default: Any,
    doc: str,
    *,
    secret: bool = False,
    limits: tuple[float, float] | None = None,
    check: Callable[[Any], None] | None = None,
) -> Any:
    """A field of `Settings`. The words of a `Literal` are those of its type."""
    about = {"doc": doc, "secret": secret, "limits": limits, "check": check}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=about, repr=False)
    return dataclasses.field(default=default, metadata=about, repr=not secret)


def settings_of(fields: type) -> dict[str, Setting]:
    """The settings of a dataclass whose fields were made by `setting`, by name."""
    types = get_type_hints(fields)
    return {
        f.name: Setting(f.name, _default(f), words=_words(types[f.name], f.default), **f.metadata)
        for f in dataclasses.fields(fields)
        if "doc" in f.metadata
    }


def _default(field: dataclasses.Field[Any]) -> Any:
    return {} if field.default is dataclasses.MISSING else field.default


def _words(kind: Any, default: Any) -> tuple[str, ...]:
    words = get_args(kind)
    return words if default in words else ()


def env_name(name: str) -> str:
    """The environment variable of a setting: `http_port` → `CUSTSVC_HTTP_PORT`."""
    return PREFIX + name.upper()
