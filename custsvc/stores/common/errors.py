"""Errors that both databases raise."""

from __future__ import annotations

from ...errors import Unusable


def wrong_role(name: str, is_role: str) -> Unusable:
    """The error of using a copy as source, or a source as copy."""
    if is_role == "copy":
        return Unusable(
            f"the {name} database is a copy: what is written to it would be lost",
            dependency=name,
            fix="use the database it is a copy of, or one that is empty",
        )
    return Unusable(
        f"the {name} database is a system of record: a copy would overwrite it",
        dependency=name,
        fix="point the copy at a database that is empty",
    )


def foreign(name: str, what: str) -> Unusable:
    """The error of a database in which another program has what custsvc would make."""
    return Unusable(
        f"the {name} database belongs to another program ({what})",
        fix=f"let CUSTSVC_{name.upper()}_URL name a database of its own for custsvc",
        dependency=name,
    )
