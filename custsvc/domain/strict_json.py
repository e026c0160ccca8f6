"""Parses JSON from outside: it refuses input on which parsers disagree.

Not orjson, which turns an integer of more than 64 bits into a float, which is another number, and silently
takes the last value of a duplicate key. The hook on each object doubles the time of parsing: some 2 µs for a
customer, 10 ms for a batch of 1,000.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any, Final, NoReturn

# A number of fewer characters without an exponent has at most 15 digits, which a float always keeps.
_SHORT: Final = 17
# No float has more digits, with a sign, a point and an exponent.
_LONGEST: Final = 1100


class DuplicateKey(ValueError):
    """A JSON object has the same key twice, so it is unclear which value is meant."""


class NotKept(ValueError):
    """A number that no float keeps, from `parse_exact_json`."""


class Inexact(float):
    """A number that no float keeps: it has other digits, or is so small that it became 0."""


def parse_json(text: str) -> Any:
    """Parse a text. Raises ValueError (DuplicateKey is one) and RecursionError."""
    return _DECODER.decode(text)


def parse_exact_json(text: str) -> Any:
    """`parse_json`, which also raises NotKept for a number that no float keeps, as 1e400."""
    return _EXACT.decode(text)


def parse_lenient_json(text: str) -> Any:
    """Parse a text as other parsers do: the last value of a duplicate key holds. Raises as `parse_json`."""
    return _LENIENT.decode(text)


def is_kept(text: str, value: float) -> bool:
    """Whether a float, written as usual or with as many digits as the text has, has the same digits."""
    if value == 0.0:
        return not text.lower().partition("e")[0].strip("-.0")
    if len(text) > _LONGEST or not math.isfinite(value):
        return False
    given = Decimal(text)
    if given == Decimal(repr(value)):
        return True
    digits = len("".join(map(str, given.as_tuple().digits)).rstrip("0"))
    return Decimal(f"{value:.{digits - 1}e}") == given


def _float(text: str) -> float:
    value = float(text)
    if len(text) < _SHORT and "e" not in text and "E" not in text:
        return value
    return value if math.isinf(value) or is_kept(text, value) else Inexact(value)


def _exact_float(text: str) -> float:
    value = _float(text)
    if isinstance(value, Inexact) or math.isinf(value):
        raise NotKept(f"{NOT_EXACT}, not {text[:40]}")
    return value


NOT_EXACT: Final = (
    "must be a number that a 64-bit float keeps; to keep all digits of another write it as text"
)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    names = iter(found)
    # Both have the same order up to the first duplicate.
    raise DuplicateKey(next(name for name, _ in pairs if name != next(names, None)))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_no_constant, parse_float=_float, object_pairs_hook=_object)
_EXACT: Final = json.JSONDecoder(
    parse_constant=_no_constant, parse_float=_exact_float, object_pairs_hook=_object
)
_LENIENT: Final = json.JSONDecoder(parse_float=_float)
