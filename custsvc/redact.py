"""Keeps secrets out of all output: errors, logs, tracebacks, `config show`.

Drivers quote addresses in their messages, whole or in pieces, decoded or as typed. So messages cannot omit
secrets by themselves: this module knows all secrets of the settings, in each form in which they may occur,
and all output goes through `redact`.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

MASK: Final = "***"

# Shorter secrets, and everyday words, are masked only in the place of a secret, as in `:secret@`.
_SHORTEST: Final = 5
_EVERYDAY: Final = frozenset(
    "custsvc postgres postgresql mongo mongodb kafka admin localhost password secret token error".split()
)
# A driver that splits an address at the wrong place quotes a piece of the secret.
_APART: Final = re.compile(r"[@:/?#%\s]+")
_SECRET_NAME: Final = re.compile(
    r"password|passwd|passphrase|secret|token(?!\.endpoint)|user\.info|jaas|key\.pem|oauthbearer\.config|authmechanismproperties",
    re.IGNORECASE,
)
_DSN: Final = re.compile(r"(?<![A-Za-z_])([A-Za-z_]++)\s*+=\s*+('(?:[^'\\]|\\.)*+'|\S*+)")
_PAIRS: Final = re.compile(r"\s*+[A-Za-z_]++\s*+=")
_API_KEY: Final = re.compile(r"(csk_[0-9a-f]{12}_)[A-Za-z0-9_-]++")
_WORD: Final = re.compile(r"\S++")
_PORT: Final = re.compile(r"[0-9]{1,5}(?:[/?#]|$)")

_ESCAPED: Final = {"\\": r"\\{1,8}", "'": r"\\{0,8}'", '"': r'\\{0,8}"'}

_forms: set[str] = set()
_pattern: re.Pattern[str] | None = None


def redact(text: str) -> str:
    """`text` without known secrets, API keys and passwords in URLs."""
    if _pattern is not None:
        text = _pattern.sub(_mask, text)
    if "csk_" in text:
        text = _API_KEY.sub(rf"\1{MASK}", text)
    return _WORD.sub(_address, text) if "://" in text and "@" in text else text


def masked(text: str) -> str:
    """An address without its secrets; another text with a secret is masked as a whole."""
    if "://" not in text and (is_secret_pair(text) or not text):
        return MASK if text else text
    text = re.sub(r"([?&])([^=&?]*+)=[^&]*+", _parameter, text)
    if "://" in text:
        return _WORD.sub(_address, text)
    before, at, after = text.rpartition("@")
    user, sign, _ = before.partition(":")
    return f"{user}:{MASK}@{after}" if at and sign else text


def is_secret_pair(text: str) -> bool:
    """Whether the text is a libpq connection string, `host=… password=…`, with a secret."""
    return any(_SECRET_NAME.search(name) for name, _ in _DSN.findall(text))


def know(*texts: str) -> None:
    """Mask these secrets from now on."""
    _add(form for text in texts for form in _forms_of(text))


def know_address(*texts: str) -> None:
    """Mask the secrets of these addresses: URLs, lists of hosts, libpq's `name=value` pairs."""
    for text in texts:
        for user, secret in _secrets_in(text):
            if secret not in (user, unquote(user)):
                know(secret)
            _add(_together(user, secret))


def know_options(options: Mapping[str, str]) -> None:
    """Mask the values of those options whose names mark them as secrets."""
    for name, value in options.items():
        if is_secret_name(name):
            know(value)
            if name.endswith("user.info"):
                know(value.partition(":")[2])
            for _, part in _DSN.findall(value):  # as sasl.jaas.config: username="…" password="…";
                know(part.strip("\"';"))
        elif "://" in value:
            know_address(value)


def is_secret_name(name: str) -> bool:
    """Whether an option or parameter with this name holds a secret."""
    return _SECRET_NAME.search(name) is not None


def _add(forms: Iterable[str]) -> None:
    global _pattern
    new = {form for form in forms if form} - _forms
    if new:
        _forms.update(new)
        longest_first = sorted(_forms, key=len, reverse=True)
        _pattern = re.compile("|".join(map(_however_escaped, longest_first)))


def _however_escaped(form: str) -> str:
    """A pattern for a text that may be escaped several times."""
    return "".join(_ESCAPED.get(char) or re.escape(char) for char in form)


def _secrets_in(address: str) -> Iterator[tuple[str, str]]:
    """The user and the secret at each place of an address that can have one."""
    if "://" not in address and _PAIRS.match(address):
        for name, value in _DSN.findall(address):
            if is_secret_name(name):
                yield "", value.strip("'").replace("\\'", "'").replace("\\\\", "\\")
        if "@" not in address:
            return  # with @ it may be a list of hosts, and the "pair" a name that contains =
    rest = address.partition("://")[2] or address
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    # An unencoded secret may contain the characters that end the authority.
    holder = authority if "@" in authority else rest
    logins = [_login(part) for part in address.split(",") if "@" in part]
    if len({user for user, _ in logins}) > 1 or ("", "") in logins:
        # Not one account at several hosts, so the secret may contain @ and a comma.
        logins.append(_login(holder))
    yield from (login for login in (logins if len(logins) > 1 else [_login(holder)]) if login != ("", ""))
    for name, value in re.findall(r"[?&]([^=&?]*+)=([^&#]*+)", rest):
        if is_secret_name(name):
            yield "", value


def _login(part: str) -> tuple[str, str]:
    """The user and the secret before the last @; both empty if there is no colon between them."""
    user, sign, secret = (part.partition("://")[2] or part).rpartition("@")[0].partition(":")
    return (user, secret) if sign else ("", "")


def _forms_of(secret: str) -> Iterator[str]:
    """The forms in which a secret may occur: as typed, decoded, encoded, quoted, in pieces."""
    texts = {secret, unquote(secret), unquote_plus(secret)}
    for text in texts:
        written = {text, *_quoted(text), html.escape(text)}
        written |= {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1]}
        written |= {form.lower() for form in written if "%" in form}
        written |= set(_pieces(text))
        for form in written:
            if len(form) >= _SHORTEST and form.lower() not in _EVERYDAY:
                yield form
            else:
                yield from (f":{form}@", f"'{form}'", f'"{form}"', f'\\"{form}\\"')


def _quoted(text: str) -> Iterator[str]:
    for safe in ("", "/", "!$&'()*+,;=-._~"):
        yield quote(text, safe=safe, errors="replace")
    yield quote_plus(text, errors="replace")


def _pieces(secret: str) -> Iterator[str]:
    parts, whole = [part for part in _APART.split(secret) if part], [secret]
    if parts != whole:
        yield from parts
    # What a driver takes for the host: all after the first character that ends a password.
    for number, char in enumerate(secret):
        if char in "@/?#":
            yield secret[number + 1 :] + "@"


def _together(user: str, secret: str) -> Iterator[str]:
    """The base64 forms in which a name and its secret are sent to a server."""
    name, word = unquote(user), unquote(secret)
    for pair in (f"{name}:{word}", f"\0{name}\0{word}"):
        yield base64.b64encode(pair.encode("utf-8", "replace")).decode()


def _mask(found: re.Match[str]) -> str:
    """The mask, within the characters that marked a short secret."""
    begin = re.match(r"""\\?["':]?""", found[0])
    end = re.search(r"""(?:\\?["']|@)?$""", found[0])
    return (begin[0] if begin else "") + MASK + (end[0] if end else "")


def _address(word: re.Match[str]) -> str:
    scheme, sign, rest = word[0].partition("://")
    if not sign or "@" not in rest:
        return word[0]
    before, at, after = rest.rpartition("@")
    return f"{scheme}://{_without_password(before)}{at}{after}"


def _without_password(before: str) -> str:
    user, sign, password = before.partition(":")
    if not sign or _PORT.match(password):  # a host and port, with an @ later in the text
        return before
    return f"{user}:{MASK}"


def _parameter(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}={MASK}" if is_secret_name(found[2]) else found[0]
