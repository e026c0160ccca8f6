"""Cleans text from outside for a header line, for an answer in JSON, and for storage in a database."""

from __future__ import annotations

import json
from typing import Any, Final

import orjson

# Controls, line and paragraph separators, lone surrogates, and marks that reorder or hide text.
_UNFIT: Final = (
    *range(0x20),
    *range(0x7F, 0xA0),
    0x2028,
    0x2029,
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    *range(0xD800, 0xE000),
    0xFEFF,
)
_TO_SPACE: Final = dict.fromkeys(_UNFIT, " ")
_OF_BODY: Final = {code: " " for code in _UNFIT if code not in (0x09, 0x0A)}


def one_line(text: str, longest: int) -> str:
    """`text` as one line of bounded length; unfit characters become spaces."""
    line = text[: longest + 1].translate(_TO_SPACE)
    return line if len(line) <= longest else line[: longest - 1] + "…"


def words(text: str | bytes, longest: int = 300) -> str:
    """The text of another program as one line of bounded length, for any bytes."""
    # Cut first: the text may be a megabyte long.
    said = text[: 8 * longest]
    if isinstance(said, bytes):
        said = said.decode("utf-8", "replace")
    return one_line(" ".join(said.translate(_TO_SPACE).split()), longest)


def is_one_line(text: str) -> bool:
    """Whether a header can hold `text` unchanged."""
    return text.translate(_TO_SPACE) == text


def body(text: str, longest: int) -> str:
    """`text` as the body of a mail: lines ended by LF, no control characters, bounded length."""
    return text[:longest].replace("\r\n", "\n").replace("\r", "\n").translate(_OF_BODY)


def as_json(value: Any, *, indent: bool = False) -> bytes:
    """A value as JSON that may quote any text: half a character becomes a question mark.

    What has no form in JSON is written as its `str`.
    """
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2 if indent else None)
    except TypeError:
        text = json.dumps(value, ensure_ascii=False, default=str, indent=2 if indent else None)
        return text.encode("utf-8", "replace")
