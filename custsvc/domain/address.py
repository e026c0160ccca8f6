"""Mail addresses, checked again just before they are used: exactly one, and nothing hidden in it.

Python's own header parser takes a comma for a second recipient and group syntax for many, and servers take
a line break for the next command (CVE-2024-6923, gh-144125). So nothing but what this returns goes into an
envelope or a header.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from .customers import EMAIL_MAX
from .text import is_one_line

_DOMAIN = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"
)


# As host names are written in DNS, and with the underscores that names of containers have.
_HOST = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*", re.I
)


class BadAddress(ValueError):
    """The text is not one mail address."""


@dataclass(frozen=True, slots=True)
class MailAddress:
    """One checked address, its domain in ASCII. `needs_utf8` tells that its local part is not."""

    local: str
    domain: str

    @property
    def spec(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def needs_utf8(self) -> bool:
        return not self.local.isascii()


def one_address(text: object) -> MailAddress:
    """The one address that `text` is. Raises BadAddress that says what is wrong."""
    from email_validator import EmailNotValidError, validate_email

    if not isinstance(text, str):
        raise BadAddress("the address is not text")
    if len(text) > EMAIL_MAX:
        raise BadAddress(f"the address has more than {EMAIL_MAX} characters")
    if not is_one_line(text):
        raise BadAddress("the address holds a control character")
    local, _, domain = text.rpartition("@")
    try:
        # Beside a stand-in, as hosts of an intranet and `localhost` are fine here: only the form matters.
        found = validate_email(f"{local}@example.com", check_deliverability=False)
        ascii_domain = _in_ascii(domain)
    except (EmailNotValidError, UnicodeError) as exc:
        raise BadAddress(f"not one e-mail address: {exc}") from exc
    if not _DOMAIN.fullmatch(ascii_domain):
        raise BadAddress("not one e-mail address: its domain is no host name")
    return MailAddress(found.local_part, ascii_domain)


def is_host(text: str) -> bool:
    """Whether `text` is a host name that can be looked up as it is."""
    return _HOST.fullmatch(text) is not None


def host_name(text: str) -> str:
    """`text`, a host's name or IP address, as it can be looked up. Raises BadAddress."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        pass
    else:
        return text
    import idna

    try:
        name = text if text.isascii() else idna.encode(text, uts46=True).decode()
    except UnicodeError as exc:
        raise BadAddress(f"{text!r} is no host name: {exc}") from exc
    if not is_host(name.removesuffix(".")):
        raise BadAddress(
            f"{text!r} is no host name (labels of 1 to 63 letters, digits and -, with dots between)"
        )
    return name


def _in_ascii(domain: str) -> str:
    """The domain as names are written in DNS. Raises UnicodeError."""
    if "--" not in domain and _DOMAIN.fullmatch(plain := domain.lower()):
        return plain  # which is what IDNA says too, at ten times the price
    import idna

    return idna.encode(domain, uts46=True).decode().lower()
