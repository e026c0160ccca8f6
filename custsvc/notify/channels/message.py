"""Turns a notification into the bytes of a mail. A value cannot add or change a header."""

from __future__ import annotations

import base64
import datetime as dt
import re
import uuid
from dataclasses import dataclass
from email.header import Header
from email.utils import format_datetime

from ...domain.address import BadAddress, MailAddress, one_address
from ...domain.requests import TRACEPARENT
from ...domain.text import is_one_line
from ...errors import ConfigurationError
from ...ports.ledger import Notification
from .channel import BadMail

_SUBJECT_MAX = 250
_LINE_MAX = 990
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail ready for one SMTP transaction."""

    sender: MailAddress
    recipient: MailAddress
    data: bytes

    @property
    def needs_utf8(self) -> bool:
        return self.sender.needs_utf8 or self.recipient.needs_utf8


def sender_address(mail_from: str) -> MailAddress:
    """The sender address of mails. Raises ConfigurationError if it is not an address."""
    try:
        return one_address(mail_from)
    except BadAddress as exc:
        raise ConfigurationError(
            f"the sender {mail_from!r} is wrong: {exc}", fix="set CUSTSVC_MAIL_FROM to one address"
        ) from exc


def message_id(notification_id: str, sender: MailAddress) -> str:
    """The Message-ID, the same for every attempt, so that a mail server can drop a repeat."""
    return f"<{notification_id}@{sender.domain}>"


def compose(
    notification: Notification, sender: MailAddress, now: dt.datetime, unsubscribe: str | None = None
) -> Mail:
    """The mail of a notification, with the link for one-click unsubscribe if there is one.

    Raises BadMail for an invalid address or subject.
    """
    try:
        recipient = one_address(notification.recipient)
    except BadAddress as exc:
        raise BadMail(str(exc)) from exc
    subject = notification.subject
    if not subject.strip() or not is_one_line(subject) or len(subject) > _SUBJECT_MAX:
        raise BadMail(f"the subject must be one line of 1 to {_SUBJECT_MAX} characters")
    headers = [
        ("From", _shown(sender)),
        ("To", _shown(recipient)),
        ("Date", format_datetime(now)),
        ("Message-ID", message_id(notification.id, sender)),
        # RFC 3834: no automatic reply may answer this mail.
        ("Auto-Submitted", "auto-generated"),
    ]
    if unsubscribe is not None:
        # RFC 2369, and RFC 8058: a mail program may post to it without asking. Never folded: not every mail
        # program joins a folded link again.
        headers.append(("List-Unsubscribe", f"<{unsubscribe}>"))
        headers.append(("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"))
    # For people who ask which request a mail is from: the same names as in the API's answers and on Kafka.
    if notification.request_id is not None:
        headers.append(("X-Request-Id", notification.request_id))
    if notification.traceparent is not None:
        headers.append((TRACEPARENT, notification.traceparent))
    utf8 = sender.needs_utf8 or recipient.needs_utf8
    try:
        head = "".join(_header(name, value) for name, value in headers).encode("utf-8" if utf8 else "ascii")
        data = head + _subject(subject) + b"MIME-Version: 1.0\r\n" + _body(notification)
    except UnicodeError as exc:
        raise BadMail(f"the mail cannot be written: {exc}") from exc
    return Mail(sender, recipient, data)


# Written by hand: `email` takes five times as long for the same bytes.


def _shown(address: MailAddress) -> str:
    """An address in a header. Text in quotes is never read as an encoded word (RFC 2047, 5)."""
    return f'"{address.local}"@{address.domain}' if "=?" in address.local else address.spec


def _header(name: str, value: str) -> str:
    if not is_one_line(value):
        raise BadMail("a header of the mail holds another one")
    return f"{name}: {value}\r\n"


def _subject(subject: str) -> bytes:
    """The only header that may be folded: non-ASCII words are encoded (RFC 2047), a few per line."""
    # Encode text that looks like an encoded word as well, or mail programs would decode it.
    plain = subject.isascii() and "=?" not in subject
    lines = [subject] if plain else Header(subject, "utf-8").encode(linesep="\n").split("\n ")
    if not all(map(is_one_line, lines)):
        raise BadMail("the subject holds another header")
    return ("Subject: " + "\r\n ".join(lines) + "\r\n").encode("ascii")


def _body(notification: Notification) -> bytes:
    """The content headers and the text; with the HTML, if there is one, as an alternative part."""
    text = _part(notification.text, "plain")
    if notification.html is None:
        return text
    mark = f"=_{uuid.uuid4().hex}"
    between = f"\r\n--{mark}\r\n".encode()
    begin = f'Content-Type: multipart/alternative; boundary="{mark}"\r\n'.encode()
    end = f"\r\n--{mark}--\r\n".encode()
    return begin + between + text + between + _part(notification.html, "html") + end


def _part(text: str, subtype: str) -> bytes:
    # A line of a mail has at most 998 characters (RFC 5322, 2.1.1); base64 breaks longer ones.
    if text.isascii() and max(map(len, text.split("\n"))) < _LINE_MAX:
        charset, encoding = "us-ascii", "7bit"
        content = _LINE_END.sub("\r\n", text).encode("ascii")
    else:
        charset, encoding = "utf-8", "base64"
        content = base64.encodebytes(text.encode()).replace(b"\n", b"\r\n")
    about = f'Content-Type: text/{subtype}; charset="{charset}"\r\nContent-Transfer-Encoding: {encoding}\r\n'
    return about.encode("ascii") + b"\r\n" + content
