"""How customers are printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from .. import output

if TYPE_CHECKING:
    from ...client import Customer

TABLE: Final = "table"
COLUMNS: Final = ("id", "name", "email", "phone", "version", "updated_on")


def show(fmt: str, customers: Sequence[Customer], *, alone: bool = True) -> None:
    """Print customers; one that is alone is no list."""
    found = [row(fmt, each) for each in customers]
    if alone and fmt == "json":
        import orjson

        output.write(orjson.dumps(found[0], option=orjson.OPT_INDENT_2))
    else:
        entries = [each.metadata for each in customers]
        more = ("metadata",) if fmt == TABLE and alone and any(entries) else ()
        output.rows(fmt, (*columns(fmt), *more), found)


def row(fmt: str, customer: Customer) -> dict[str, Any]:
    """A customer as it is printed; in a table the time is short enough for 80 columns."""
    found = customer.as_dict()
    if fmt == TABLE:
        found["updated_on"] = f"{customer.updated_on:%Y-%m-%d %H:%M:%S}"
    return found


def columns(fmt: str) -> tuple[str, ...]:
    """The columns of customers."""
    return COLUMNS if fmt == TABLE else (*COLUMNS[:4], "metadata", "deleted", *COLUMNS[4:])
