"""From a notification to the bytes of a mail. A value can end up in the text, never in another header."""

from __future__ import annotations

import datetime as dt
import email.policy
import uuid
from dataclasses import dataclass
from email.header import Header
from email.headerregistry import Address
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.parser import BytesHeaderParser
from email.utils import format_datetime

from ..errors import ConfigurationError
from ..stores.base import Notification
from .address import BadAddress, MailAddress, one_address
from .channel import BadMail
from .text import is_one_line


class _Straight(email.policy.Compat32):
    """Writes each header as it is. The older policy, and no folding: mails are written five times as fast.

    Nor is the link to unsubscribe broken in two, which not every mail program mends.
    """

    def fold_binary(self, name: str, value: str) -> bytes:
        return f"{name}: {value}\n".replace("\n", self.linesep).encode("ascii")


_ASCII = _Straight(linesep="\r\n")
# Only the newer policy writes addresses beyond ASCII.
_UTF8 = email.policy.SMTPUTF8.clone(max_line_length=990)
_SUBJECT_MAX = 250
_LINE_MAX = 990


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
    """The address mails come from. Raises ConfigurationError where it is not one."""
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
    """The mail of a notification, with the address of one click to unsubscribe where there is one.

    Raises BadMail for an address or a subject that cannot be used.
    """
    try:
        recipient = one_address(notification.recipient)
    except BadAddress as exc:
        raise BadMail(str(exc)) from exc
    subject = notification.subject
    if not subject.strip() or not is_one_line(subject) or len(subject) > _SUBJECT_MAX:
        raise BadMail(f"the subject must be one line of 1 to {_SUBJECT_MAX} characters")
    utf8 = sender.needs_utf8 or recipient.needs_utf8
    try:
        message = _body(notification)
        message["From"] = str(Address(username=sender.local, domain=sender.domain))
        message["To"] = str(Address(username=recipient.local, domain=recipient.domain))
        message["Subject"] = subject if subject.isascii() else Header(subject, "utf-8").encode()
        message["Date"] = format_datetime(now)
        message["Message-ID"] = message_id(notification.id, sender)
        # RFC 3834: no out-of-office reply, and no loop of replies, may answer this.
        message["Auto-Submitted"] = "auto-generated"
        if unsubscribe is not None:
            # RFC 2369, and RFC 8058: a mail program may post to it without asking.
            message["List-Unsubscribe"] = f"<{unsubscribe}>"
            message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        data = message.as_bytes(policy=_UTF8 if utf8 else _ASCII)
    except (ValueError, UnicodeError) as exc:
        raise BadMail(f"the mail cannot be written: {exc}") from exc
    # Not every Python's generator refuses a header that breaks its line (CVE-2024-6923), so look.
    if BytesHeaderParser().parsebytes(data).keys() != message.keys():
        raise BadMail("a header of the mail holds another one")
    return Mail(sender, recipient, data)


def _body(notification: Notification) -> MIMEText | MIMEMultipart:
    """The text, and the HTML where there is one. The older classes of `email`: thrice as fast, same bytes."""
    text = _part(notification.text, "plain")
    if notification.html is None:
        return text
    # Made up here, as looking for one that the text does not hold costs as much as all the rest.
    boundary = f"=_{uuid.uuid4().hex}"
    return MIMEMultipart("alternative", boundary, [text, _part(notification.html, "html")])


def _part(text: str, subtype: str) -> MIMEText:
    # A line of a mail has at most 998 characters (RFC 5322, 2.1.1); base64 breaks longer ones.
    plain = text.isascii() and max(map(len, text.split("\n"))) < _LINE_MAX
    return MIMEText(text, subtype, "us-ascii" if plain else "utf-8")
