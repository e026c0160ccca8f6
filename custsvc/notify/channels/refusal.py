"""Whether a refusal says that the recipient does not exist: only then may it suppress an address for weeks.

Servers use 550 to refuse a sender, a blocked client or a full mailbox, and for reasons of policy. Only an
enhanced status code (RFC 3463) distinguishes these, and only at the beginning of the reply's text (RFC 2034):
after it there may be network addresses, rule numbers and quotations that look alike.
"""

from __future__ import annotations

import re
from typing import Final

# No such mailbox, no such system, bad syntax, moved away, a domain without mail; and a disabled mailbox.
GONE: Final = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"})
# Codes with which a refusal of the sender is about this mail after all: its size or its need of UTF-8.
ABOUT_THE_MAIL: Final = frozenset({"5.2.3", "5.3.4", "5.6.7"})

_HEAD: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?=$|[\s:;,<(]|\.(?:\s|$))", re.ASCII)
_REPLY: Final = re.compile(r"(\d{3})[ -]\s*(.*)", re.ASCII | re.DOTALL)


def status(text: str) -> str | None:
    """The enhanced status code at the beginning of a reply's text, if any."""
    found = _HEAD.match(text.strip())
    return found[0] if found else None


def is_gone(code: int | None, text: str) -> bool:
    """Whether an answer about a recipient says that no mail will ever reach them.

    `text` has a line for each line of the reply; all status codes in it must be equal.
    """
    if code is None or not 500 <= code < 600:
        return False
    lines = text.splitlines() or [""]
    statuses = {found for line in lines if (found := status(line))}
    return status(lines[0]) in GONE and len(statuses) == 1


def reported_gone(status_field: str, diagnostic: str) -> bool:
    """The same for one recipient's part of a delivery report (RFC 3464).

    Its status decides. If that is the undefined 5.0.0, as Exim writes, the quoted reply decides.
    """
    reported = status(status_field)
    if reported not in (None, "5.0.0"):
        return reported in GONE
    reply = _REPLY.fullmatch(diagnostic.strip())
    return reply is not None and is_gone(int(reply[1]), reply[2])
