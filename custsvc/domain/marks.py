"""Unicode's normal forms in linear time for any text.

Python sorts a run of combining marks by insertion: 80,000 marks block the interpreter for seven seconds. Here
the marks of a long run are sorted first, so that the insertion sort moves nothing.
"""

from __future__ import annotations

import unicodedata
from typing import Final, Literal

# No real text has letters with more marks: Unicode's stream-safe text has at most this many (UAX 15).
_RUN_MAX: Final = 30


def normalized(form: Literal["NFC", "NFD", "NFKC", "NFKD"], text: str) -> str:
    """`unicodedata.normalize` of any text, in linear time."""
    return unicodedata.normalize(form, _sorted_runs(text) if _has_long_run(text) else text)


def _has_long_run(text: str) -> bool:
    if text.isascii() or len(text) <= _RUN_MAX:
        return False
    run = 0
    for char in text:
        run = run + 1 if unicodedata.category(char)[0] == "M" else 0
        if run > _RUN_MAX:
            return True
    return False


def _sorted_runs(text: str) -> str:
    """The text with its marks in canonical order; it has the same normal forms as the text."""
    done: list[str] = []
    run: list[str] = []
    # Decompose each character: some that are not marks decompose into marks only.
    for char in "".join([unicodedata.normalize("NFD", char) for char in text]):
        if unicodedata.combining(char):
            run.append(char)
            continue
        done += sorted(run, key=unicodedata.combining)
        run.clear()
        done.append(char)
    return "".join(done + sorted(run, key=unicodedata.combining))
