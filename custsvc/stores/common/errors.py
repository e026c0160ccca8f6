"""Errors that both databases raise."""

from __future__ import annotations

from ...errors import ConfigurationError


def wrong_role(name: str, is_role: str) -> ConfigurationError:
    """The error of using a copy as source, or a source as copy."""
    if is_role == "copy":
        return ConfigurationError(
            f"the {name} database is a copy: what is written to it would be lost",
            fix="use the database it is a copy of, or one that is empty",
        )
    return ConfigurationError(
        f"the {name} database is a system of record: a copy would overwrite it",
        fix="point the copy at a database that is empty",
    )
