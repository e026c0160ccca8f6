"""One SMTP server: a connection that is kept, one recipient per transaction, and each answer weighed.

TLS is asked for unless the address says `smtp+plain`; a server that does not offer it gets no mail. A failure
before the text was given to the server (`down`) leaves the mail as it was; one after that, without an answer,
leaves it unknown (RFC 1047), and never is it sent again on a guess.
"""

from __future__ import annotations

import logging
import re
import smtplib
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from .. import crash
from ..errors import ConfigurationError
from . import refusal
from .channel import Outcome
from .message import Mail

logger = logging.getLogger(__name__)

_PORTS: Final = {"smtp": 587, "smtps": 465, "smtp+plain": 25}
_FIX: Final = "set CUSTSVC_SMTP_URL to smtp://user:password@host:port, smtps://… or smtp+plain://…"
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
# A kept connection is renewed after this many mails, and asked whether it still lives after so many seconds.
_MAILS_PER_CONNECTION = 100
_IDLE = 5.0


@dataclass(frozen=True, slots=True)
class Server:
    """Where mails are handed over, and how."""

    scheme: str
    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> Server:
        """The server of CUSTSVC_SMTP_URL. Raises ConfigurationError that shows no password."""
        try:
            parts = urlsplit(url)
            scheme, host, port = parts.scheme, parts.hostname, parts.port
        except ValueError as exc:
            raise ConfigurationError("the mail server's address is not a URL", fix=_FIX) from exc
        if scheme not in _PORTS or not host:
            raise ConfigurationError("the mail server's address is missing or of no known kind", fix=_FIX)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if user and scheme == "smtp+plain" and host not in _LOOPBACK:
            raise ConfigurationError("a password must not go to a mail server in clear text", fix=_FIX)
        return cls(scheme, host, port or _PORTS[scheme], user, password)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait: for a connection, for the answer to a command, for the answer to the whole mail."""

    connect: float = 10.0
    command: float = 20.0
    data: float = 45.0


class _Down(Exception):
    """The server cannot be used now, whatever the mail."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


class SmtpTransport:
    """Hands mails to one server. Not for several threads at once."""

    def __init__(self, server: Server, timeouts: Timeouts | None = None) -> None:
        self._server = server
        self._timeouts = timeouts or Timeouts()
        self._smtp: smtplib.SMTP | None = None
        self._sent = 0
        self._used_at = 0.0

    def send(self, mail: Mail, hand_over: Callable[[], bool]) -> Outcome:
        """Try to send. `hand_over` is called just before the text is given; False from it ends the try.

        What it raises goes through, and nothing was sent then.
        """
        try:
            refused = self._offer(mail)
        except _Down as down:
            self.close()
            return Outcome("down", down.code, str(down))
        except (OSError, smtplib.SMTPException) as exc:
            self.close()
            return Outcome("down", None, f"no connection to {self._server.address}: {_words(exc)}")
        if refused is not None:
            return refused
        mine = False
        try:
            mine = hand_over()
        finally:
            if not mine:
                self._reset()
        return self._give(mail) if mine else Outcome("not-ours")

    def check(self) -> str | None:
        """Connect, with TLS and login as for a mail, and leave; what is wrong, or None."""
        try:
            self._connected()
        except (_Down, OSError, smtplib.SMTPException) as exc:
            self.close()
            return (
                str(exc)
                if isinstance(exc, _Down)
                else f"no connection to {self._server.address}: {_words(exc)}"
            )
        self.quit()
        return None

    def close(self) -> None:
        """Leave without a word; a transaction that is open is none then."""
        if self._smtp is not None:
            self._smtp.close()
            self._smtp = None

    def quit(self) -> None:
        """Take leave of the server, if it answers at once."""
        if self._smtp is not None:
            try:
                self._timeout(self._smtp, 1.0)
                self._smtp.quit()
            except (OSError, smtplib.SMTPException):
                pass
            self.close()

    # -- up to the hand-over: nothing is sent yet, so any failure may simply be tried again -----------------

    def _offer(self, mail: Mail) -> Outcome | None:
        """MAIL and RCPT; an Outcome where the server refuses this mail, None where it waits for the text."""
        kept = self._smtp is not None
        try:
            return self._envelope(self._connected(), mail)
        except (OSError, smtplib.SMTPServerDisconnected):
            # Servers close idle connections as they like; that says nothing about a new one.
            if not kept:
                raise
            self.close()
            return self._envelope(self._connected(), mail)

    def _envelope(self, smtp: smtplib.SMTP, mail: Mail) -> Outcome | None:
        # Not smtplib's own commands: those parse the addresses anew, which are checked already.
        options, smtp.command_encoding = "", "ascii"
        if mail.needs_utf8:
            if not smtp.has_extn("smtputf8"):
                return Outcome("failed", None, "the mail server takes no addresses beyond ASCII (SMTPUTF8)")
            options, smtp.command_encoding = " SMTPUTF8 BODY=8BITMIME", "utf-8"
        code, reply = smtp.docmd("MAIL", f"FROM:<{mail.sender.spec}>{options}")
        if code == 421 or (500 <= code < 600 and not _is_about_the_mail(code, reply)):
            # It refuses us or our sender address, so it would refuse every mail: none of them is at fault.
            raise _Down(f"{self._server.address} refuses the sender: {code} {_text(reply)}", code)
        if not 200 <= code < 300:
            return self._refused(code, reply)
        code, reply = smtp.docmd("RCPT", f"TO:<{mail.recipient.spec}>")
        if 200 <= code < 300:
            crash.point("notify.accepted-recipient")
            return None
        return self._refused(code, reply, of_recipient=True)

    def _refused(self, code: int, reply: bytes, *, of_recipient: bool = False) -> Outcome:
        if code == 421:
            self.close()
        else:
            self._reset()
        return Outcome(verdict(code), code, _text(reply), of_recipient and _is_gone(code, reply))

    def _reset(self) -> None:
        """Make the connection fit for the next mail."""
        if self._smtp is not None:
            try:
                if self._smtp.rset()[0] == 250:
                    return
            except (OSError, smtplib.SMTPException):
                pass
            self.close()

    def _connected(self) -> smtplib.SMTP:
        smtp = self._smtp
        if smtp is not None and self._sent < _MAILS_PER_CONNECTION and self._lives(smtp):
            return smtp
        self.quit()
        self._smtp = self._connect()
        self._sent = 0
        self._used_at = time.monotonic()
        return self._smtp

    def _lives(self, smtp: smtplib.SMTP) -> bool:
        if time.monotonic() - self._used_at < _IDLE:
            return True
        try:
            return smtp.noop()[0] == 250
        except (OSError, smtplib.SMTPException):
            return False

    def _connect(self) -> smtplib.SMTP:
        server, wait = self._server, self._timeouts.connect
        try:
            if server.scheme == "smtps":
                context = ssl.create_default_context()
                smtp: smtplib.SMTP = smtplib.SMTP_SSL(
                    server.host, server.port, _our_name(), timeout=wait, context=context
                )
            else:
                smtp = smtplib.SMTP(server.host, server.port, _our_name(), timeout=wait)
        except smtplib.SMTPResponseException as exc:
            raise _Down(f"{server.address} does not take mail now: {_words(exc)}", exc.smtp_code) from exc
        try:
            self._greet(smtp)
        except BaseException:
            smtp.close()
            raise
        self._timeout(smtp, self._timeouts.command)
        crash.point("notify.connected")
        logger.debug("Connected to %s", server.address, extra={"action": "smtp_connected"})
        return smtp

    def _greet(self, smtp: smtplib.SMTP) -> None:
        server = self._server
        try:
            smtp.ehlo_or_helo_if_needed()
            if server.scheme == "smtp":
                if not smtp.has_extn("starttls"):
                    raise _Down(f"{server.address} offers no STARTTLS, so it gets no mail")
                smtp.starttls(context=ssl.create_default_context())
                smtp.ehlo_or_helo_if_needed()
            if server.user:
                smtp.login(server.user, server.password)
        except smtplib.SMTPResponseException as exc:
            raise _Down(f"{server.address} refuses: {_words(exc)}", exc.smtp_code) from exc
        except smtplib.SMTPNotSupportedError as exc:
            raise _Down(f"{server.address} cannot do what is asked: {exc}") from exc

    def _timeout(self, smtp: smtplib.SMTP, seconds: float) -> None:
        if isinstance(smtp.sock, socket.socket):
            smtp.sock.settimeout(seconds)

    # -- from the hand-over on: only an answer tells how it ended --------------------------------------------

    def _give(self, mail: Mail) -> Outcome:
        smtp = self._smtp
        if smtp is None:
            raise RuntimeError("a mail was handed over without a connection")
        try:
            code, reply = smtp.docmd("DATA")
        except (OSError, smtplib.SMTPException) as exc:
            # The server had no line of the text yet, so it cannot have taken the mail.
            self.close()
            return Outcome("down", None, f"the connection broke before the text: {_words(exc)}")
        if code != 354:
            return self._refused(code, reply, of_recipient=True)
        try:
            self._timeout(smtp, self._timeouts.data)
            smtp.send(_end_of_data(mail.data))
            crash.point("notify.gave-text")
            code, reply = smtp.getreply()
            crash.point("notify.answered")
            self._timeout(smtp, self._timeouts.command)
        except (OSError, smtplib.SMTPException) as exc:
            self.close()
            return Outcome("unknown", None, f"no answer after the text was given: {_words(exc)}")
        self._sent += 1
        self._used_at = time.monotonic()
        if code == 421:
            self.close()
        if not 200 <= code < 600:
            self.close()
            return Outcome(
                "unknown", None, f"the answer after the text makes no sense: {code} {_text(reply)}"
            )
        if code < 300:
            return Outcome("sent", code, _text(reply))
        # It was the only recipient, so a refusal of the text may be about them as well.
        return Outcome(verdict(code), code, _text(reply), _is_gone(code, reply))


def verdict(code: int) -> Literal["deferred", "failed"]:
    """What a refusal means: 5yz is for good, all else may be different next time (RFC 5321, 4.2.1)."""
    return "failed" if 500 <= code < 600 else "deferred"


def _is_about_the_mail(code: int, reply: bytes) -> bool:
    """Whether a refusal of the sender is for what this mail is: too large, or in need of UTF-8."""
    return code == 552 or refusal.status(reply.decode("utf-8", "replace")) in refusal.ABOUT_THE_MAIL


def _is_gone(code: int, reply: bytes) -> bool:
    return refusal.is_gone(code, reply.decode("utf-8", "replace"))


def _end_of_data(data: bytes) -> bytes:
    """The text as it goes over the line: lines end in CRLF, dots at their begin are doubled, then a dot."""
    ends = data.count(b"\r\n")
    if ends != data.count(b"\n") or ends != data.count(b"\r"):
        data = re.sub(rb"\r\n|\r|\n", b"\r\n", data)
    if not data.endswith(b"\r\n"):
        data += b"\r\n"
    if data.startswith(b"."):
        data = b"." + data
    return data.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def _our_name() -> str:
    # The full name may need DNS, which may hang; an address literal is as good to a server (RFC 5321, 4.1.3).
    name = socket.gethostname()
    return name if "." in name and name.isascii() else "[127.0.0.1]"


def _text(reply: bytes) -> str:
    return " ".join(reply.decode("utf-8", "replace").split())[:300]


def _words(exc: BaseException) -> str:
    if isinstance(exc, smtplib.SMTPResponseException):
        error = exc.smtp_error
        return f"{exc.smtp_code} {_text(error if isinstance(error, bytes) else str(error).encode())}"
    return " ".join(str(exc).split())[:300] or type(exc).__name__
