"""Bounces: what a mail server writes back about a mail that it took and could not deliver (RFC 3464)."""

from __future__ import annotations

import email
import email.policy
from dataclasses import dataclass
from email.message import Message

from .address import BadAddress, one_address
from .text import one_line

_REASON_MAX = 300


@dataclass(frozen=True, slots=True)
class Bounce:
    """A recipient that a report is about; `is_final`: no later try will reach them."""

    address: str
    reason: str
    is_final: bool


def read(report: bytes) -> list[Bounce]:
    """The recipients of a delivery report; an empty list where the mail is none."""
    message = email.message_from_bytes(report, policy=email.policy.compat32)
    return [
        bounce
        for part in message.walk()
        if part.get_content_type() == "message/delivery-status"
        for fields in _blocks(part)
        if (bounce := _bounce(fields)) is not None
    ]


def _blocks(part: Message) -> list[Message]:
    blocks = part.get_payload()
    return [block for block in blocks if isinstance(block, Message)] if isinstance(blocks, list) else []


def _bounce(fields: Message) -> Bounce | None:
    kind, _, text = str(fields.get("Final-Recipient", "")).partition(";")
    if kind.strip().lower() != "rfc822" or str(fields.get("Action", "")).strip().lower() != "failed":
        return None
    try:
        address = one_address(text.strip()).spec
    except BadAddress:
        return None
    status = str(fields.get("Status", "")).strip()
    why = str(fields.get("Diagnostic-Code", "")).partition(";")[2].strip() or status
    return Bounce(
        address, one_line(" ".join(why.split()), _REASON_MAX), status.startswith("5.1.") or status == "5.2.1"
    )
