"""Makes untrusted text safe for terminals and logs: nothing in it controls, hides or reorders."""

from __future__ import annotations

from typing import Final

# Characters that end a line, or reorder or hide text, on a terminal or for its reader.
_UNSEEN: Final = (
    *(0x00AD, 0x061C, 0x180E, *range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070)),
    *(0xFEFF, *range(0xFFF9, 0xFFFC), *range(0xE0000, 0xE0080)),
)
_CONTROLS: Final = (*range(0x20), *range(0x7F, 0xA0))


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _in_json(code: int) -> str:
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


_LINE: Final = {code: _escape(code) for code in (*_CONTROLS, *_UNSEEN, *range(0xD800, 0xE000))}
_LINES: Final = {code: escape for code, escape in _LINE.items() if code not in (0x09, 0x0A)}
# JSON itself escapes the first 32 in strings; outside of strings they are its line breaks.
_JSON: Final = {code: _in_json(code) for code in (*range(0x7F, 0xA0), *_UNSEEN)}


def line(text: str) -> str:
    """`text` as one line, its controls and hidden characters escaped."""
    return text.translate(_LINE)


def lines(text: str) -> str:
    """`text` with its line breaks and tabs, all other controls and hidden characters escaped."""
    return text.replace("\r\n", "\n").translate(_LINES)


def json_text(text: str) -> str:
    """Equivalent JSON without such characters."""
    return text if text.isascii() and "\x7f" not in text else text.translate(_JSON)


def host_port(host: str, port: int) -> str:
    """`host:port` as a URL has it: an address of IPv6 stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
