"""The SMTP server of CUSTSVC_SMTP_URL, and how long each step may take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from ...config import Settings
from ...domain.address import BadAddress, host_name
from ...errors import ConfigurationError
from ...runtime.printable import host_port

_PORTS: Final = {"smtp": 587, "smtps": 465, "smtp+plain": 25}
_FIX: Final = "set CUSTSVC_SMTP_URL to smtp://user:password@host:port, smtps://… or smtp+plain://…"
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Server:
    """The SMTP server, and how to connect to it."""

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
            scheme, named, port = parts.scheme, parts.hostname, parts.port
        except ValueError as exc:
            raise ConfigurationError("the mail server's address is not a URL", fix=_FIX) from exc
        if scheme not in _PORTS or not named:
            raise ConfigurationError("the mail server's address is missing or of no known kind", fix=_FIX)
        try:
            host = host_name(named)
        except BadAddress as exc:
            raise ConfigurationError(f"the mail server's name is wrong: {exc}", fix=_FIX) from exc
        if port == 0 or parts.path.strip("/") or parts.query or parts.fragment:
            # An unencoded `#`, `?` or `/` in a password ends the host part of the URL there.
            raise ConfigurationError(
                "the mail server's address holds more than user, password, host and port",
                fix="write / ? # @ : % in its password as %2F %3F %23 %40 %3A %25",
            )
        user, password = _login(parts)
        if user and scheme == "smtp+plain" and host not in _LOOPBACK:
            raise ConfigurationError("a password must not go to a mail server in clear text", fix=_FIX)
        return cls(scheme, host, port or _PORTS[scheme], user, password)

    @property
    def address(self) -> str:
        return host_port(self.host, self.port)


def _login(parts: SplitResult) -> tuple[str, str]:
    """The decoded user and password. Raises ConfigurationError if they cannot be sent to the server."""
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    for what, text in (("user", user), ("password", password)):
        if not text.isascii() or not text.isprintable():
            raise ConfigurationError(
                f"the {what} of the mail server holds characters that cannot be sent when signing in",
                fix=f"give that account a {what} of printable ASCII characters, and write it into"
                " CUSTSVC_SMTP_URL with / ? # @ : % as %2F %3F %23 %40 %3A %25",
            )
    if password and not user:
        raise ConfigurationError("the mail server's address has a password and no user", fix=_FIX)
    return user, password


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for each step, from RFC 5321 (4.5.3.2); an answer must be complete by then."""

    connect: float = 30.0
    # MAIL, and the commands without a time in the RFC: EHLO, STARTTLS, AUTH, RSET, NOOP.
    command: float = 300.0
    # The answer to the whole mail.
    data: float = 600.0
    greeting: float = 300.0
    recipient: float = 300.0
    # The answer to DATA, before the text.
    begin: float = 120.0
    # Each piece of the text that the server is slow to accept.
    block: float = 180.0

    @classmethod
    def of(cls, settings: Settings) -> Timeouts:
        """The timeouts from the settings."""
        return cls(
            connect=settings.smtp_connect_timeout,
            command=settings.smtp_mail_timeout,
            data=settings.smtp_end_timeout,
            greeting=settings.smtp_greeting_timeout,
            recipient=settings.smtp_rcpt_timeout,
            begin=settings.smtp_data_timeout,
            block=settings.smtp_block_timeout,
        )
