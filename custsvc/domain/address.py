"""Mail addresses, checked again just before use: a text must be exactly one address.

Python's header parser reads a comma as a second recipient and group syntax as many, and servers read a line
break as the next command (CVE-2024-6923, gh-144125). So envelopes and headers get only addresses that this
module returned.
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


# Host names as in DNS, plus the underscores of container names.
_HOST = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*", re.I
)


# The local parts that the library returns as they are: nearly all. It takes ten times as long to say so.
_PLAIN = re.compile(r"(?=.{1,64}\Z)[a-z0-9]+([._+-][a-z0-9]+)*")


class BadAddress(ValueError):
    """The text is not one mail address."""


@dataclass(frozen=True, slots=True)
class MailAddress:
    """One checked address, its domain in ASCII. `needs_utf8`: the local part is not ASCII."""

    local: str
    domain: str

    @property
    def spec(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def needs_utf8(self) -> bool:
        return not self.local.isascii()


def one_address(text: object) -> MailAddress:
    """Parse `text` as exactly one address. Raises BadAddress, which says what is wrong."""
    from email_validator import EmailNotValidError, validate_email

    if not isinstance(text, str):
        raise BadAddress("the address is not text")
    if len(text) > EMAIL_MAX:
        raise BadAddress(f"the address has more than {EMAIL_MAX} characters")
    if not is_one_line(text):
        raise BadAddress("the address has a control character")
    local, _, domain = text.rpartition("@")
    try:
        # With a placeholder domain, since intranet hosts and `localhost` are allowed here.
        if not _PLAIN.fullmatch(local):
            local = validate_email(f"{local}@example.com", check_deliverability=False).local_part
        ascii_domain = _in_ascii(domain)
    except (EmailNotValidError, UnicodeError) as exc:
        raise BadAddress(f"not one e-mail address: {exc}") from exc
    if not _DOMAIN.fullmatch(ascii_domain):
        raise BadAddress("not one e-mail address: its domain is not a host name")
    return MailAddress(local, ascii_domain)


def is_host(text: str) -> bool:
    """Whether `text` is a host name in the form that DNS looks up."""
    return _HOST.fullmatch(text) is not None


def host_name(text: str) -> str:
    """A host name or IP address in the form that DNS looks up. Raises BadAddress."""
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
        raise BadAddress(f"{text!r} is not a host name: {exc}") from exc
    if not is_host(name.removesuffix(".")):
        raise BadAddress(
            f"{text!r} is not a host name (labels of 1 to 63 letters, digits and -, with dots between)"
        )
    return name


def _in_ascii(domain: str) -> str:
    """The domain in the form of DNS. Raises UnicodeError."""
    if "--" not in domain and _DOMAIN.fullmatch(plain := domain.lower()):
        return plain  # IDNA gives the same at ten times the cost
    import idna

    return idna.encode(domain, uts46=True).decode().lower()


def address_key(address: str) -> str:
    """The form of an address in the suppression list: upper and lower case are equal."""
    return address.strip().casefold()
