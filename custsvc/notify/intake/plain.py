"""The text of an HTML mail, for readers without HTML. Linear in the length of the HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Final

# A tag, or the start of a hidden part. None of them can begin inside another.
_MARK: Final = re.compile(
    r"<!--|<(?P<hidden>script|style)(?=[\s/>])|<(?P<tag>/?[a-z][a-z0-9]*+)[^<>]*+>|<[^<>]*+>", re.IGNORECASE
)
_REST_OF_TAG: Final = re.compile("(?:[^<>]*+>)?")
_ENDS: Final = {
    "script": re.compile(r"</script\s*+>", re.IGNORECASE),
    "style": re.compile(r"</style\s*+>", re.IGNORECASE),
    "!--": re.compile("-->"),
}
_BREAKS: Final = frozenset(("br", "/p", "/div", "/tr", "/li", *(f"/h{level}" for level in range(1, 7))))
_NUMBER: Final = re.compile(r"&#(x?)0*+([0-9a-f]{8,}+|(?<=0000)[0-9a-f]*+);?", re.IGNORECASE)


def text_of(source: str) -> str:
    """The text of HTML: tags and hidden parts become a space, ends of paragraphs a line break."""
    return html.unescape(_NUMBER.sub(_short_number, "".join(_pieces(source)))).strip() + "\n"


def _pieces(source: str) -> Iterator[str]:
    at = 0
    unended: set[str] = set()
    while mark := _MARK.search(source, at):
        yield source[at : mark.start()]
        at = mark.end()
        hidden = "!--" if mark[0] == "<!--" else (mark["hidden"] or "").lower()
        yield "\n" if (mark["tag"] or "").lower() in _BREAKS else " "
        if not hidden:
            continue
        # An end that was not found once is not searched for again.
        end = None if hidden in unended else _ENDS[hidden].search(source, at)
        if end is None:
            unended.add(hidden)
            end = _REST_OF_TAG.match(source, at)
        at = end.end() if end else at
    yield source[at:]


def _short_number(number: re.Match[str]) -> str:
    """A numeric character reference; very many digits, which Python refuses to parse, are replaced."""
    digits = number[2]
    return f"&#{number[1]}{digits or 0};" if len(digits) < 8 else "\N{REPLACEMENT CHARACTER}"
