"""Bounces: a mail server's report about a mail that it accepted but could not deliver (RFC 3464)."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message

from ...domain.address import BadAddress, one_address
from ...domain.text import words
from . import refusal

_REASON_MAX = 300


@dataclass(frozen=True, slots=True)
class Bounce:
    """A recipient in a report; `is_final`: no later try will reach them."""

    address: str
    reason: str
    is_final: bool


def read(report: bytes) -> list[Bounce]:
    """The recipients of a delivery report; an empty list if the mail is not a report."""
    message = email.message_from_bytes(report, policy=email.policy.compat32)
    return [
        bounce
        for part in _own_parts(message)
        if part.get_content_type() == "message/delivery-status"
        for fields in _blocks(part)
        if (bounce := _bounce(fields)) is not None
    ]


def _own_parts(message: Message) -> Iterator[Message]:
    """The parts of a mail, without those of the returned mail, which may be a report too."""
    yield message
    if message.get_content_maintype() == "multipart" and message.is_multipart():
        for part in message.get_payload():
            if isinstance(part, Message):
                yield from _own_parts(part)


def _blocks(part: Message) -> list[Message]:
    blocks = part.get_payload()
    return [block for block in blocks if isinstance(block, Message)] if isinstance(blocks, list) else []


def _bounce(fields: Message) -> Bounce | None:
    kind, _, text = str(fields.get("Final-Recipient", "")).partition(";")
    if kind.strip().lower() != "rfc822" or str(fields.get("Action", "")).strip().lower() != "failed":
        return None
    try:
        address = one_address(text.strip().removeprefix("<").removesuffix(">")).spec
    except BadAddress:
        return None
    status = str(fields.get("Status", "")).strip()
    kind, _, diagnostic = str(fields.get("Diagnostic-Code", "")).partition(";")
    # Only the diagnostic text of a mail server (smtp) is a reply that begins with a status code.
    reply = diagnostic.strip() if kind.strip().lower() == "smtp" else ""
    return Bounce(
        address, words(diagnostic or status, _REASON_MAX), refusal.reported_gone(status, _unfolded(reply))
    )


def _unfolded(text: str) -> str:
    return " ".join(text.split())
