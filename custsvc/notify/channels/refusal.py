"""Whether a refusal says that the recipient does not exist: only then may it silence an address for weeks.

Servers refuse for the sender, for policy, for a blocked client, for a full mailbox, all with 550. Only an
enhanced status code (RFC 3463) tells them apart, and only at the beginning of the reply's text (RFC 2034):
further on stand addresses of networks, numbers of rules and quotations.
"""

from __future__ import annotations

import re
from typing import Final

# No such mailbox, no such system, bad syntax, moved away, a domain without mail; and a disabled mailbox.
GONE: Final = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"})
# What a refusal of the sender may be about all the same: this mail's size or its need of UTF-8.
ABOUT_THE_MAIL: Final = frozenset({"5.2.3", "5.3.4", "5.6.7"})

_HEAD: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?=$|[\s:;,<(]|\.(?:\s|$))", re.ASCII)
_REPLY: Final = re.compile(r"(\d{3})[ -]\s*(.*)", re.ASCII | re.DOTALL)


def status(text: str) -> str | None:
    """The enhanced status code at the beginning of a reply's text, where there is one."""
    found = _HEAD.match(text.strip())
    return found[0] if found else None


def is_gone(code: int | None, text: str) -> bool:
    """Whether an answer about a recipient says that no mail will ever reach them.

    `text` has a line for each line of the reply; each that has a status must have the same.
    """
    if code is None or not 500 <= code < 600:
        return False
    lines = text.splitlines() or [""]
    told = {found for line in lines if (found := status(line))}
    return status(lines[0]) in GONE and len(told) == 1


def reported_gone(status_field: str, diagnostic: str) -> bool:
    """The same of one recipient's part of a delivery report (RFC 3464).

    The status says it. Where that is the undefined 5.0.0, as Exim writes, the reply that is quoted does.
    """
    told = status(status_field)
    if told not in (None, "5.0.0"):
        return told in GONE
    reply = _REPLY.fullmatch(diagnostic.strip())
    return reply is not None and is_gone(int(reply[1]), reply[2])
