"""One SMTP server: a kept connection, one recipient per transaction, and the meaning of each answer.

TLS is required unless the URL says `smtp+plain`; a server that does not offer it gets no mail. A failure
before the text was given to the server (`down`) leaves the mail as it was; a failure after that, without an
answer, leaves it `unknown` (RFC 1047), and it is never sent again on a guess.
"""

from __future__ import annotations

import logging
import re
import smtplib
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Literal

from ...domain.address import is_host
from ...domain.text import words
from ...runtime import crash
from . import refusal
from .channel import Outcome
from .line import Line, TlsLine, UnrequestedLine
from .message import Mail
from .server import Server, Timeouts

logger = logging.getLogger(__name__)

# A kept connection is renewed after this many mails, and checked with NOOP after this many idle seconds.
_MAILS_PER_CONNECTION = 100
_IDLE = 5.0
# ValueError: a host name that cannot be encoded, or a challenge that is not base64.
_BROKEN: Final = (OSError, smtplib.SMTPException, ValueError)


class _Down(Exception):
    """The server cannot be used now, for any mail."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


class SmtpTransport:
    """Hands mails to one server. Not thread-safe."""

    def __init__(self, server: Server, timeouts: Timeouts | None = None) -> None:
        self._server = server
        self._timeouts = timeouts or Timeouts()
        self._smtp: Line | None = None
        self._sent = 0
        self._used_at = 0.0

    def send(self, mail: Mail, hand_over: Callable[[], bool]) -> Outcome:
        """Try to send. Calls `hand_over` just before it gives the text to the server; False ends the try.

        An exception from `hand_over` propagates, and nothing was sent then.
        """
        try:
            refused = self._offer(mail)
        except (_Down, *_BROKEN) as exc:
            self.close()
            return self._down(exc)
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
        """Connect, with TLS and login as for a mail, and quit; return the problem, or None."""
        try:
            self._connected()
        except (_Down, *_BROKEN) as exc:
            self.close()
            return self._down(exc).text
        self.quit()
        return None

    def close(self) -> None:
        """Drop the connection without QUIT; an open transaction is abandoned."""
        if self._smtp is not None:
            self._smtp.close()
            self._smtp = None

    def quit(self) -> None:
        """Send QUIT, and wait for the answer only briefly."""
        if self._smtp is not None:
            with suppress(*_BROKEN):
                self._ask(self._smtp, 1.0, "QUIT")
            self.close()

    def _down(self, exc: Exception) -> Outcome:
        if isinstance(exc, _Down):
            return Outcome("down", exc.code, str(exc))
        return Outcome("down", None, f"no connection to {self._server.address}: {_words(exc)}")

    def _ask(self, smtp: Line, seconds: float, command: str, args: str = "") -> tuple[int, bytes]:
        _patience(smtp, seconds)
        return smtp.docmd(command, args)

    # -- before the hand-over: nothing is sent yet, so it is safe to try again after any failure -------------

    def _offer(self, mail: Mail) -> Outcome | None:
        """Send MAIL and RCPT; return an Outcome if the server refuses this mail, None if it accepts them."""
        kept = self._smtp is not None
        try:
            return self._envelope(self._connected(), mail)
        except (OSError, smtplib.SMTPServerDisconnected):
            # Servers close idle connections at any time; a new connection may still work.
            if not kept:
                raise
            self.close()
            return self._envelope(self._connected(), mail)

    def _envelope(self, smtp: Line, mail: Mail) -> Outcome | None:
        # Not smtplib's own commands: those parse the addresses again, which are checked already.
        smtp.command_encoding = "utf-8" if mail.needs_utf8 else "ascii"
        if cannot := _cannot_take(smtp, mail):
            return Outcome("failed", None, cannot)
        from_ = f"FROM:<{mail.sender.spec}>{_options(smtp, mail)}"
        code, reply = self._ask(smtp, self._timeouts.command, "MAIL", from_)
        if 500 <= code < 600 and not _is_about_the_mail(code, reply):
            # It refuses us or our sender address, so it would refuse every mail: this mail is not the cause.
            raise _Down(f"{self._server.address} refuses the sender: {code} {words(reply)}", code)
        if not 200 <= code < 300:
            return self._refused(code, reply)
        code, reply = self._ask(smtp, self._timeouts.recipient, "RCPT", f"TO:<{mail.recipient.spec}>")
        if 200 <= code < 300:
            crash.point("notify.accepted-recipient")
            return None
        return self._refused(code, reply, of_recipient=True)

    def _refused(self, code: int, reply: bytes, *, of_recipient: bool = False) -> Outcome:
        """The outcome of a refusal before the text. Raises _Down if the refusal is not about this mail."""
        if code == 421:
            raise _Down(f"{self._server.address} closes: 421 {words(reply)}", code)
        if not 400 <= code < 600:
            # The code does not fit the command, so the answers are out of step.
            raise _Down(f"an answer of {self._server.address} makes no sense: {code} {words(reply)}")
        self._reset()
        return Outcome(verdict(code), code, words(reply), of_recipient and _is_gone(code, reply))

    def _reset(self) -> None:
        """Reset the connection for the next mail."""
        if self._smtp is not None:
            try:
                self._smtp.command_encoding = "ascii"
                if self._ask(self._smtp, self._timeouts.command, "RSET")[0] == 250:
                    return
            except _BROKEN:
                pass
            self.close()

    def _connected(self) -> Line:
        smtp = self._smtp
        if smtp is not None and self._sent < _MAILS_PER_CONNECTION and self._lives(smtp):
            return smtp
        self.quit()
        self._smtp = self._connect()
        self._sent = 0
        self._used_at = time.monotonic()
        return self._smtp

    def _lives(self, smtp: Line) -> bool:
        if time.monotonic() - self._used_at < _IDLE:
            return True
        try:
            return self._ask(smtp, self._timeouts.command, "NOOP")[0] == 250
        except _BROKEN:
            return False

    def _connect(self) -> Line:
        try:
            smtp = self._line()
        except smtplib.SMTPResponseException as exc:
            text = f"{self._server.address} does not take mail now: {_words(exc)}"
            raise _Down(text, exc.smtp_code) from exc
        try:
            self._greet(smtp)
        except BaseException:
            smtp.close()
            raise
        crash.point("notify.connected")
        logger.debug("Connected to %s", self._server.address, extra={"action": "smtp_connected"})
        return smtp

    def _line(self) -> Line:
        server = self._server
        waits = {"timeout": self._timeouts.connect, "greeting": self._timeouts.greeting}
        if server.scheme == "smtps":
            context = ssl.create_default_context()
            return TlsLine(server.host, server.port, _our_name(), **waits, context=context)
        return Line(server.host, server.port, _our_name(), **waits)

    def _greet(self, smtp: Line) -> None:
        server = self._server
        _patience(smtp, self._timeouts.command)
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

    # -- after the hand-over: only an answer shows how it ended ----------------------------------------------

    def _give(self, mail: Mail) -> Outcome:
        smtp = self._smtp
        if smtp is None:
            raise RuntimeError("a mail was handed over without a connection")
        try:
            code, reply = self._ask(smtp, self._timeouts.begin, "DATA")
            if code != 354:
                return self._refused(code, reply, of_recipient=True)
            # An unrequested line before the text would be taken for the answer to the text.
            smtp.check_in_step()
        except _Down as exc:
            self.close()
            return self._down(exc)
        except _BROKEN as exc:
            # The server has received no line of the text yet, so it cannot have accepted the mail.
            self.close()
            return Outcome("down", None, f"the connection broke before the text: {_words(exc)}")
        try:
            _patience(smtp, self._timeouts.block)
            text, end = _end_of_data(mail.data)
            smtp.send(text)
            # An answer before the end of the text does not cover the mail; without that end none is accepted.
            smtp.check_in_step()
            smtp.send(end)
            crash.point("notify.gave-text")
            _patience(smtp, self._timeouts.data)
            code, reply = smtp.getreply()
            crash.point("notify.answered")
        except UnrequestedLine as exc:
            self.close()
            early = 400 <= exc.code < 600 and exc.code != 421
            return Outcome(verdict(exc.code) if early else "down", exc.code or None, words(exc.said))
        except _BROKEN as exc:
            self.close()
            return Outcome("unknown", None, f"no answer after the text was given: {_words(exc)}")
        self._sent += 1
        self._used_at = time.monotonic()
        return self._answered(code, reply)

    def _answered(self, code: int, reply: bytes) -> Outcome:
        """The outcome of the answer to the text."""
        if 200 <= code < 300:
            return Outcome("sent", code, words(reply))
        if code == 421:
            # It did not accept the mail, and accepts none for now.
            self.close()
            return Outcome("down", code, f"{self._server.address} closes: 421 {words(reply)}")
        if 400 <= code < 600:
            # There is only one recipient, so a refusal of the text may be about them as well.
            return Outcome(verdict(code), code, words(reply), _is_gone(code, reply))
        self.close()
        return Outcome("unknown", None, f"the answer after the text makes no sense: {code} {words(reply)}")


def verdict(code: int) -> Literal["deferred", "failed"]:
    """The outcome of a refusal: 5yz is permanent, anything else is temporary (RFC 5321, 4.2.1)."""
    return "failed" if 500 <= code < 600 else "deferred"


def _cannot_take(smtp: Line, mail: Mail) -> str | None:
    """Why the server, by its EHLO extensions, will not accept this mail."""
    if mail.needs_utf8 and not smtp.has_extn("smtputf8"):
        return "the mail server takes no addresses beyond ASCII (SMTPUTF8)"
    said = smtp.esmtp_features.get("size", "")
    most = int(said) if re.fullmatch(r"[0-9]{1,15}", said) else 0
    if most and len(mail.data) > most:
        return f"the mail has {len(mail.data)} bytes, and the mail server takes at most {most} (SIZE)"
    return None


def _options(smtp: Line, mail: Mail) -> str:
    options = f" SIZE={len(mail.data)}" if smtp.has_extn("size") else ""
    if mail.needs_utf8:
        options += " SMTPUTF8 BODY=8BITMIME" if smtp.has_extn("8bitmime") else " SMTPUTF8"
    return options


def _is_about_the_mail(code: int, reply: bytes) -> bool:
    """Whether a refusal of the sender is about this mail: too large, or in need of UTF-8."""
    return code == 552 or refusal.status(reply.decode("utf-8", "replace")) in refusal.ABOUT_THE_MAIL


def _is_gone(code: int, reply: bytes) -> bool:
    return refusal.is_gone(code, reply.decode("utf-8", "replace"))


def _end_of_data(data: bytes) -> tuple[bytes, bytes]:
    """The text as sent over the network, with its end: lines end in CRLF, leading dots are doubled."""
    ends = data.count(b"\r\n")
    if ends != data.count(b"\n") or ends != data.count(b"\r"):
        data = re.sub(rb"\r\n|\r|\n", b"\r\n", data)
    if not data.endswith(b"\r\n"):
        data += b"\r\n"
    if data.startswith(b"."):
        data = b"." + data
    return data.replace(b"\r\n.", b"\r\n.."), b".\r\n"


def _our_name() -> str:
    # The full host name may need DNS, which may hang; an address literal does as well (RFC 5321, 4.1.3).
    name = socket.gethostname()
    return name if "." in name and is_host(name) else "[127.0.0.1]"


def _patience(smtp: Line, seconds: float) -> None:
    # Each change of the timeout is a system call.
    if isinstance(smtp.sock, socket.socket) and smtp.sock.gettimeout() != seconds:
        smtp.sock.settimeout(seconds)


def _words(exc: BaseException) -> str:
    if isinstance(exc, smtplib.SMTPResponseException):
        error = exc.smtp_error
        return f"{exc.smtp_code} {words(error if isinstance(error, bytes) else str(error))}"
    return words(str(exc)) or type(exc).__name__


__all__ = ["Server", "SmtpTransport", "Timeouts", "verdict"]
