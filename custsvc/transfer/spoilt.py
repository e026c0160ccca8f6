"""Cells that a spreadsheet has spoilt: numbers without their last digits, errors, texts as formulas."""

from __future__ import annotations

import re
from typing import Final

from .row import RowError, shown

# 4.42079E+11, with a comma in half of the world.
_SHORTENED: Final = re.compile(r"[+-]?[0-9](?:[.,][0-9]+)?E\+?[0-9]{1,3}", re.IGNORECASE)
_ERRORS: Final = frozenset("#NAME? #REF! #VALUE! #DIV/0! #N/A #NUM! #NULL! #ERROR! #SPILL! #CALC!".split())
# Written so that a spreadsheet leaves the zeros at the beginning: ="0044".
_WRAPPED: Final = re.compile(r'="([^"]*)"')
# The digits that a spreadsheet keeps of a number; it replaces the others with zeros.
DIGITS: Final = 15


def unwrapped(cell: str) -> str | None:
    """The text within a cell like `="0044"`; None for any other cell."""
    found = _WRAPPED.fullmatch(cell.strip()) if cell.lstrip().startswith("=") else None
    return found[1] if found else None


def spoilt(field: str, text: str) -> RowError | None:
    """The warning for a cell whose value a spreadsheet has lost, which is skipped; else None."""
    if text in _ERRORS:
        message = (
            "is an error of a spreadsheet, not a value; correct the formula there and save the file again"
        )
        return RowError(field, "spreadsheet_error", message, shown(text))
    if field == "phone" and (_SHORTENED.fullmatch(text) or _is_filled_up(text)):
        message = (
            "was shortened by a spreadsheet, its last digits are lost; export it again and import the column "
            "as text"
        )
        return RowError(field, "spoilt_number", message, shown(text))
    return None


def doubtful(field: str, text: str) -> RowError | None:
    """The warning for an entry of the metadata that may be wrong and is imported; else None."""
    if not _SHORTENED.fullmatch(text):
        return None
    message = "looks like a number that a spreadsheet has shortened; it is imported as it stands here"
    return RowError(field, "spoilt_number", message, shown(text))


def _is_filled_up(text: str) -> bool:
    """Whether a number has more digits than a spreadsheet keeps, and zeros in place of the others."""
    return text.isascii() and text.isdigit() and len(text) > DIGITS and not text[DIGITS:].strip("0")
