"""Metadata that forms, browsers and spreadsheets tend to change."""

from __future__ import annotations

from typing import Any

HARD: dict[str, Any] = {
    "lines": "a\nb",
    "crlf": "a\r\nb\r\n",
    "cr": "a\rb",
    "first": "\n\na",
    "spaces": "  a  ",
    " key ": " ",
    "=": "\t",
    "one": 1,
    "text one": "1",
    "float": 1.0,
    "minus nothing": -0.0,
    "big": 1e22,
    "true": True,
    "text true": "true",
    "nothing": None,
    "empty": "",
    "</textarea>": "</textarea>\n<b>",
    "long": "\U0001f389" * 500,
}
