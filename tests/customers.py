"""Customers for generators: bodies that the API accepts, with every value that is hard to store."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from custsvc.domain.canonical import canonical_fields
from custsvc.domain.customers import (
    EDITABLE,
    INT64_MAX,
    METADATA_KEY_MAX,
    METADATA_VALUE_MAX,
    PHONE_MAX,
)
from custsvc.errors import ValidationError

# Characters with a meaning in files, forms and spreadsheets, beside ordinary and foreign letters.
_SIGNS = "=+-@;,|'\"\\/&<>{}[]%#:.?$\uff1d\uff0b\uff0d\uff20"
_SPACES = " \u00a0\u2003\u3000"
_LETTERS = "abzAZ019\u00e9\u00df\u0131\u4e2d\U0001f389\u0301"
_LINES = "\n\r\t"

_one_line = st.text(_SIGNS + _SPACES + _LETTERS, max_size=12) | st.text(max_size=8)
_text = st.text(_SIGNS + _SPACES + _LETTERS + _LINES, max_size=16) | st.sampled_from(
    (
        *("", " ", "\n", "\r", "\r\n", "a\rb", "a\r\nb\nc", "\n\na", "a\n", " a ", "\t", "</textarea>"),
        *("1", "1,000", "1.0", "true", "null", "yes", "no", "007", "1e3", "{}", "\\u003d"),
        *("=1+1", "x;=1+1", "x\t@y", "'=1", ";';=1"),
        *("x" * METADATA_VALUE_MAX, "\U0001f389" * METADATA_VALUE_MAX),
    )
)
_key = st.text(_SIGNS + _SPACES + _LETTERS, min_size=1, max_size=8) | st.sampled_from(
    (" ", " a", "a ", "=1", ";=1", "name", "id", "metadata", "*", "k" * METADATA_KEY_MAX)
)
_number = (
    st.integers(-INT64_MAX - 1, INT64_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from((0, 1, 1.0, -0.0, 1000, 1e16, 1e22, 5e-324, 0.1, INT64_MAX, 2**53 + 1))
)
_value = _text | _number | st.booleans() | st.none()
_email = st.none() | st.sampled_from(
    (
        "a@example.org",
        "A.B+c@Example.ORG",
        "o'brien@example.org",
        "m\u00fcller@b\u00fccher.example",
        "=x@example.org",
    )
)

bodies = st.fixed_dictionaries(
    {"name": _one_line.map(lambda text: text or "A")},
    optional={
        "email": _email,
        "phone": st.none() | st.text(_SIGNS + " 0123456789()", max_size=PHONE_MAX),
        "metadata": st.none() | st.dictionaries(_key, _value, max_size=5),
    },
)


def is_accepted(body: dict[str, Any]) -> bool:
    """Whether the API takes a body as a customer."""
    try:
        canonical_fields(body)
    except ValidationError:
        return False
    return True


accepted = bodies.filter(is_accepted)


def editable(customer: dict[str, Any]) -> dict[str, Any]:
    """The fields of a customer that a caller may set."""
    return {name: customer[name] for name in EDITABLE}
