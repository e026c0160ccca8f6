"""The columns of the list: fixed fields and entries of the metadata, and whether rows are compact.

They are in the address, as `columns=email,metadata.tier` and `rows=compact`. An address without them shows
what this browser chose last, which a cookie keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode

from flask import request
from werkzeug.wrappers import Response as BaseResponse

from ..domain.customers import METADATA_KEY_MAX
from ..http.lists import METADATA
from .browser import is_secure

COLUMNS_MAX: Final = 12
"""The most columns of a list, besides the name."""
FIXED: Final = {
    "email": "E-mail",
    "phone": "Phone",
    "updated_on": "Changed",
    "updated_by": "Changed by",
    "created_on": "Added",
    "created_by": "Added by",
    "version": "Version",
}
SORTED: Final = frozenset(("email", "updated_on", "created_on", "version"))
TIMES: Final = frozenset(("updated_on", "created_on"))
_DEFAULT: Final = ("email", "phone", "updated_on")
_COOKIE: Final = "custsvc_list"
_KEPT: Final = 365 * 86400
# Browsers drop a cookie of more than 4 kB.
_LONGEST: Final = 3000
_OFFERED: Final = 30


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `key` is the key of a metadata entry, None for a fixed field."""

    name: str
    label: str
    key: str | None = None

    def value(self, customer: Mapping[str, Any]) -> Any:
        """The value of the customer; None if there is none."""
        return customer[self.name] if self.key is None else customer["metadata"].get(self.key)

    @property
    def is_time(self) -> bool:
        return self.name in TIMES

    @property
    def is_sorted(self) -> bool:
        """Whether lists can be sorted by it."""
        return self.name in SORTED


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns after the name, in order; `unknown` names what the address asked for in vain."""

    shown: tuple[Column, ...]
    compact: bool
    unknown: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.shown]

    def parameters(self) -> dict[str, str]:
        """The same columns as parameters of an address."""
        return {"columns": joined(self.names) or "name", "rows": "compact" if self.compact else "roomy"}

    def fields(self) -> list[str]:
        """The columns of a file with what is shown."""
        return ["id", "name", *self.names]

    def offered(self, rows: Sequence[Mapping[str, Any]]) -> list[Column]:
        """The columns to choose from: those shown, the other fixed ones, and the metadata of these rows."""
        keys = {key: None for row in rows for key in row["metadata"]}
        others = [*FIXED, *(METADATA + key for key in list(keys)[:_OFFERED])]
        return list(_columns(dict.fromkeys([*self.names, *others])))


def of_request(given: Mapping[str, str]) -> Columns:
    """The columns of the address, else those that this browser chose last, else the usual ones."""
    kept = dict(parse_qsl(request.cookies.get(_COOKIE, "")[:_LONGEST]))
    text, rows = (given.get(name) or kept.get(name) for name in ("columns", "rows"))
    asked = _DEFAULT if text is None else [each for each in map(unquote, text.split(",")) if each != "name"]
    wanted = list(dict.fromkeys(asked))
    known = [each for each in wanted if _is_known(each)]
    left_out = [*(each for each in wanted if not _is_known(each)), *known[COLUMNS_MAX:]]
    unknown = [each[:METADATA_KEY_MAX] for each in left_out[:COLUMNS_MAX] if each and "columns" in given]
    return Columns(tuple(_columns(known[:COLUMNS_MAX])), rows == "compact", tuple(unknown))


def chosen(form: Mapping[str, Any], names: Iterable[str], key: str) -> dict[str, str]:
    """The parameters for the columns of a sent form: those ticked, and the metadata key typed."""
    typed = [METADATA + each for each in [key.strip().removeprefix(METADATA)] if each]
    wanted = list(dict.fromkeys([*names, *typed]))
    return {
        "columns": joined(wanted[: COLUMNS_MAX + 1]) or "name",
        "rows": "compact" if form.get("compact") else "roomy",
    }


def remember(response: BaseResponse, parameters: Mapping[str, str]) -> None:
    """Keep the columns in this browser."""
    value = urlencode(parameters)
    if len(value) > _LONGEST:
        return
    response.set_cookie(
        _COOKIE,
        value,
        max_age=_KEPT,
        secure=is_secure(),
        httponly=True,
        samesite="Lax",
        path="/ui/customers",
    )


def joined(names: Iterable[str]) -> str:
    """Names of columns as the parameter of an address: a comma within a metadata key is escaped."""
    return ",".join(quote(name, safe=" ") for name in names)


def _is_known(name: str) -> bool:
    if not name.startswith(METADATA):
        return name in FIXED
    return 0 < len(name) - len(METADATA) <= METADATA_KEY_MAX


def _columns(names: Iterable[str]) -> Iterable[Column]:
    for name in names:
        key = name.removeprefix(METADATA) if name.startswith(METADATA) else None
        yield Column(name, FIXED[name] if key is None else key, key)
