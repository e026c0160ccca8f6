"""The connection to one SMTP server: smtplib's client with bounded answers, each matched to its command.

smtplib applies its timeout to each piece of an answer, and reads on as long as lines come: a server that
sends a byte now and then, or endless lines, would block a sender for ever. And it takes unrequested lines for
the answer to the next command.
"""

from __future__ import annotations

import re
import select
import smtplib
import socket
import ssl
import time
from typing import Any, Final

# Most bytes of an answer, all its lines together.
_ANSWER_MAX: Final = 65536


class _Answers:
    """Reads lines from a socket, as smtplib's `file`. Each answer has one deadline and a maximum length."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._arrived = select.poll()
        self._arrived.register(sock, select.POLLIN)
        self._read = b""
        self._patience = self._until = 0.0
        self._waited = False
        self._left = 0

    def begin(self) -> None:
        """Start to wait for an answer, for at most the socket's timeout."""
        self._patience = self._sock.gettimeout() or 0.0
        self._waited = False
        self._until = time.monotonic() + self._patience
        self._left = _ANSWER_MAX

    def readline(self, limit: int) -> bytes:
        try:
            while (end := self._read.find(b"\n", 0, limit)) < 0 and len(self._read) < limit:
                if not (some := self._more()):
                    end = len(self._read) - 1
                    break
                self._read += some
        finally:
            if self._sock.gettimeout() != self._patience:
                self._sock.settimeout(self._patience)
        cut = end + 1 if end >= 0 else min(limit, len(self._read))
        line, self._read = self._read[:cut], self._read[cut:]
        self._left -= len(line)
        if self._left < 0:
            raise OSError(f"an answer of more than {_ANSWER_MAX} bytes")
        return line

    def _more(self) -> bytes:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no whole answer within {self._patience:g} s")
        # Each change of a timeout is a system call; for the first piece the whole patience is left.
        if self._waited:
            self._sock.settimeout(left)
        self._waited = True
        try:
            return self._sock.recv(8192)
        except TimeoutError as exc:
            raise TimeoutError(f"no answer within {self._patience:g} s") from exc

    def unrequested(self) -> bytes:
        """The server's unrequested lines. Raises OSError if it closed the connection."""
        # Nothing has arrived, nearly always; then that is one system call.
        if not self._arrived.poll(0) and not _pending(self._sock):
            return self._read
        before = self._sock.gettimeout()
        try:
            self._sock.settimeout(0.0)
            if not (some := self._sock.recv(8192)):
                raise ConnectionResetError("the server closed the connection")
            self._read += some
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        finally:
            self._sock.settimeout(before)
        return self._read

    def close(self) -> None:
        """smtplib closes its file before its socket."""


def _pending(sock: socket.socket) -> bool:
    """Whether TLS has bytes that it has decrypted already."""
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0


class UnrequestedLine(smtplib.SMTPServerDisconnected):
    """The server sent an unrequested line."""

    def __init__(self, said: bytes) -> None:
        super().__init__(f"the server sent an unrequested line: {said[:200].decode('utf-8', 'replace')}")
        self.said = said

    @property
    def code(self) -> int:
        """The code at the beginning of the line, or 0."""
        return int(self.said[:3]) if re.match(rb"[1-9][0-9]{2}[ -]", self.said) else 0


class Line(smtplib.SMTP):
    """A connection in clear text, or one secured by STARTTLS. The constructor reads the greeting."""

    def __init__(
        self, host: str, port: int, name: str, *, timeout: float, greeting: float, **options: Any
    ) -> None:
        self._greeting: float | None = greeting
        super().__init__(host, port, local_hostname=name, timeout=timeout, **options)
        if self.sock is not None:
            # The end of a text is a packet of its own, and must not wait for the ACK of the previous one.
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def getreply(self) -> tuple[int, bytes]:
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("there is no connection")
        if self._greeting is not None:
            self.sock.settimeout(self._greeting)
            self._greeting = None
        if self.file is None:
            self.file = _Answers(self.sock)
        self.file.begin()
        return super().getreply()

    def putcmd(self, cmd: str, args: str = "") -> None:
        self.check_in_step()
        super().putcmd(cmd, args)

    def docmd(self, cmd: str, args: str = "") -> tuple[int, bytes]:
        answer = super().docmd(cmd, args)
        if cmd.upper() == "STARTTLS":
            # Data after this answer came in clear text: an attacker may have injected it.
            self.check_in_step()
        return answer

    def check_in_step(self) -> None:
        """Raise UnrequestedLine if the server sent an unrequested line, such as a 421.

        It would be taken for the answer to the next command, and so on for all later ones.
        """
        if not isinstance(self.file, _Answers):
            return
        try:
            said = self.file.unrequested()
        except OSError as exc:
            self.close()
            raise smtplib.SMTPServerDisconnected(str(exc)) from exc
        if said:
            self.close()
            raise UnrequestedLine(said)


class TlsLine(Line, smtplib.SMTP_SSL):
    """A connection with TLS from the first byte."""
