"""Parameters and headers that several operations take."""

from __future__ import annotations

from typing import Any, Final, get_args

from ...domain.customers import EMAIL_MAX, NAME_MAX
from ...http.lists import FIELDS
from ...http.messages import LIMIT_DEFAULT, LIMIT_MAX
from ...ports.customers import SortField
from .operation import Parameter

_DELETED = Parameter(
    "deleted",
    "Whether deleted customers are in the list.",
    {"type": "string", "enum": ["exclude", "include", "only"], "default": "exclude"},
)
PAGE_LIMIT = Parameter(
    "limit",
    "The most items on a page.",
    {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
)
CURSOR = Parameter("cursor", "The end of the page before, from its `next`.", {"type": "string"})
COUNT = Parameter(
    "count",
    "Whether to count all that match. By default only on the first page, and there exactly unless they are "
    "so many that counting would take long.",
    {"type": "string", "enum": ["exact", "estimated", "none"]},
)


def yes_or_no(name: str, description: str) -> Parameter:
    """A query parameter that is true or false; false unless given."""
    return Parameter(name, description, {"type": "boolean", "default": False})


def text(name: str, description: str, longest: int, **schema: Any) -> Parameter:
    return Parameter(name, description, {"type": "string", "maxLength": longest, **schema})


# Neither NUL nor nothing but white space: here that of Python, which knows more than that of JavaScript.
_SPACE: Final = r"\s\x1c-\x1f\x85"
_SAYS_SOMETHING: Final = rf"^[{_SPACE}]*[^\x00{_SPACE}][^\x00]*$"
FILTERS: Final = (
    text(
        "q",
        "Words, each of which begins a word of name, email or phone. Case and accents do not matter, nor do "
        "apostrophes and hyphens, nor how a number is grouped; its last four digits or more find it too. "
        "Text without a word finds no customer.",
        NAME_MAX,
        pattern=_SAYS_SOMETHING,
    ),
    text("email", "This address, in any case.", EMAIL_MAX, pattern=_SAYS_SOMETHING),
    text(
        "name__startswith",
        "The name begins with this; case and accents do not matter.",
        NAME_MAX,
        pattern=_SAYS_SOMETHING,
    ),
    *(
        Parameter(
            f"{field}__{sign}",
            f"Last {verb} {words} this time." if field == "updated" else f"Created {words} this time.",
            {"type": "string", "format": "date-time"},
        )
        for field, verb in (("created", "created"), ("updated", "changed"))
        for sign, words in (
            ("gte", "at or after"),
            ("gt", "after"),
            ("lte", "at or before"),
            ("lt", "before"),
        )
    ),
    _DELETED,
)
SORT = Parameter(
    "sort",
    "The field to sort by, with - before it to descend. Customers alike in it follow by id. Names sort "
    "by their base letters: case and accents only decide between names that are alike without them.",
    {
        "type": "string",
        "enum": [f"{sign}{field}" for field in get_args(SortField) for sign in ("", "-")],
        "default": "id",
    },
)
SHOWN = text(
    "fields",
    "The fields to show, separated by commas: `id,name`. All of them by default.",
    200,
    pattern=f"^({'|'.join(FIELDS)})(,({'|'.join(FIELDS)}))*$",
)


def header(name: str, description: str, **schema: Any) -> Parameter:
    return Parameter(name, description, {"type": "string", **schema}, place="header")


# A time as HTTP writes it, with the days that each month has.
_DAY: Final = (
    "(0[1-9]|1[0-9]|2[0-8]) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
    "|31 (Jan|Mar|May|Jul|Aug|Oct|Dec)"
    "|(29|30) (Jan|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
)
_YEAR: Final = "[12][0-9]{3}"
_LEAP_YEAR: Final = "([12][0-9](0[48]|[2468][048]|[13579][26])|2000)"
_HTTP_DATE: Final = (
    f"^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), (({_DAY}) {_YEAR}|29 Feb {_LEAP_YEAR}) "
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9] GMT$"
)
# Ours, also as a server in between makes it that compresses.
_TAG: Final = r'^(\*|(W/)?"v[1-9][0-9]{0,17}(-gzip)?")$'
IF_MATCH = header(
    "If-Match",
    'The ETag of the version this write is based on, as "v3"; where it is no more, 412.',
    pattern=_TAG,
)
IF_NONE_MATCH = header("If-None-Match", "ETags that you have; 304 where nothing changed.")
IF_MODIFIED_SINCE = header(
    "If-Modified-Since",
    "A Last-Modified; 304 where nothing changed since. Counts only without If-None-Match.",
)
UNLESS = header(
    "If-None-Match",
    "Versions at which this write must not happen, or * for a deleted customer only; else 412.",
    pattern=_TAG,
)
UNMODIFIED_SINCE = header(
    "If-Unmodified-Since",
    "A Last-Modified; where the customer changed in a later second, 412. Counts only without If-Match, which "
    "is exact.",
    pattern=_HTTP_DATE,
)
GUARDS: Final = (IF_MATCH, UNLESS, UNMODIFIED_SINCE)
PREFER = header(
    "Prefer",
    "`return=minimal`: no body back (RFC 7240). Unknown preferences are ignored.",
    examples=["return=minimal", "return=representation"],
)
KEY = header(
    "Idempotency-Key",
    "Any text of your own. The same request sent again with it, within 24 hours, gets the same answer and "
    "does nothing; another request with it is 422.",
    pattern="^[!#-~]{1,255}$",
)
WAIT = header(
    "Prefer", "`wait=N`: wait up to N seconds (at most 10) for X-Custsvc-Min-Position.", examples=["wait=2"]
)
MIN_POSITION = header(
    "X-Custsvc-Min-Position",
    "X-Custsvc-Position of a write. A copy without that write answers 504 `copy-behind`; the source never "
    "lets a stand-by without it answer.",
    pattern="^[1-9][0-9]{0,17}-[1-9][0-9]{0,17}$",
)
