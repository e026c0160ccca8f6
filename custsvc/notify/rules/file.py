"""The rules file: read and checked as a whole, so that errors are reported at start, with their line.

`findings` returns all problems, as `doctor` shows them; `load` returns the rules, or raises the first one.
"""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ... import redact
from ...config import Settings
from ...domain.address import BadAddress, host_name, one_address
from ...domain.events import APP_EVENT_TYPE
from ...errors import ConfigurationError
from . import sample
from .asked import Wrong, changed_fields, conditions, unknown, words
from .rules import CUSTOMER, MAIL, PREVIOUS, ChannelConfig, Rule, Rules, values
from .templates import BUILT_IN, BrokenTemplate, Templates

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")
_RULE_KEYS: Final = (
    "name",
    "ops",
    "to",
    "template",
    "changed",
    "when",
    "channel",
    "always",
    "digest",
    "bulk",
)
_CHANNEL_KEYS: Final = ("kind", "url", "url_file", "secret", "secret_file")
_KINDS: Final = {"webhook": ("standardwebhooks", "urllib3"), "apprise": ("apprise",)}
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_DIGEST_MAX: Final = 7 * 86400
# The sample unsubscribe link with which templates are checked.
_SAMPLE_LINK: Final = "https://example.com/unsubscribe/sample"


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: where, what, and the fix."""

    file: str
    line: int | None
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.problem}" if self.line else f"{self.file}: {self.problem}"


def load(settings: Settings) -> Rules:
    """The configured rules, or the built-in ones. Raises ConfigurationError with file and line."""
    reader = _read(_path(settings))
    if reader.problems:
        more = f" (and {len(reader.problems) - 1} more)" if len(reader.problems) > 1 else ""
        raise ConfigurationError(f"{reader.problems[0]}{more}", fix=reader.problems[0].fix)
    return reader.rules()


def findings(settings: Settings) -> list[Problem]:
    """All problems of the rules and their templates."""
    return _read(_path(settings)).problems


def lacks(settings: Settings, channel: str, waiting: int) -> tuple[str, str]:
    """That so many notifications wait for a channel which the rules lack, and what to do."""
    name = settings.notify_rules or "the built-in rules"
    return (
        f"{waiting:,} wait for channel {channel}, which {name} does not have",
        f"put [channel.{channel}] back, or give them up: custsvc notify discard --state queued --rule RULE",
    )


def _path(settings: Settings) -> Path:
    return Path(settings.notify_rules) if settings.notify_rules else BUILT_IN / "notify.toml"


def _read(path: Path) -> _Reader:
    reader = _Reader(path)
    reader.read()
    return reader


@dataclass
class _Reader:
    """Reads one file, and collects problems instead of stopping at the first."""

    path: Path
    problems: list[Problem] = field(default_factory=list)
    _rules: list[Rule] = field(default_factory=list)
    _channels: dict[str, ChannelConfig] = field(default_factory=dict)
    _text: str = ""
    _templates: Templates = field(default_factory=Templates)

    def rules(self) -> Rules:
        return Rules(tuple(self._rules), self._templates, self._channels)

    def read(self) -> None:
        try:
            self._text = self.path.read_text(encoding="utf-8-sig")
            table = tomllib.loads(self._text)
        except OSError as exc:
            self._add(
                None,
                f"cannot be read ({exc.strerror})",
                "correct CUSTSVC_NOTIFY_RULES, or custsvc notify init",
            )
            return
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
            at = re.search(r"line (\d+)", str(exc))
            self._add(int(at[1]) if at else None, f"is not valid TOML: {exc}", f"correct {self.path}")
            return
        self._top(table)

    def _top(self, table: Mapping[str, Any]) -> None:
        for key in table:
            if key not in ("templates", "rule", "channel"):
                self._add(self._line(key), unknown(key, ("templates", "rule", "channel")))
        try:
            self._templates = Templates(self._folder(table.get("templates")))
        except Wrong as wrong:
            self._add(self._line(wrong.key), str(wrong), wrong.fix)
        channels, rules = table.get("channel", {}), table.get("rule", [])
        if not isinstance(channels, dict):
            self._add(self._line("channel"), "channel must be tables: [channel.NAME]")
            channels = {}
        if not isinstance(rules, list):
            self._add(self._line("rule"), "rules must be written as [[rule]]")
            rules = []
        for name, given in channels.items():
            self._channel(name, given)
        for number, given in enumerate(rules):
            self._rule(number, given)

    def _folder(self, value: Any) -> Path | None:
        if value is None:
            return None
        if not isinstance(value, str):
            raise Wrong("templates", "templates must be the path of a folder")
        folder = self.path.parent / value
        if not folder.is_dir():
            raise Wrong(
                "templates", f"there is no folder {folder}", f"mkdir {folder}, or custsvc notify init"
            )
        return folder

    # -- channels ------------------------------------------------------------------------------------------

    def _channel(self, name: str, given: Any) -> None:
        header = rf"\[channel\.\"?{re.escape(name)}\"?\]"
        try:
            if not isinstance(given, dict):
                raise Wrong("", f"channel {name} must be a table")
            if name == MAIL or not _NAME.fullmatch(name):
                raise Wrong(
                    "", f"a channel cannot be named {name!r}", "use lower-case letters, digits, - and _"
                )
            _keys(given, _CHANNEL_KEYS)
            self._channels[name] = self._configured(name, given)
        except Wrong as wrong:
            self._add(self._line(wrong.key, header), f"channel {name}: {wrong}", wrong.fix)

    def _configured(self, name: str, given: Mapping[str, Any]) -> ChannelConfig:
        kind = given.get("kind")
        if kind not in _KINDS:
            raise Wrong("kind", f"kind must be {' or '.join(_KINDS)}")
        for package in _KINDS[kind]:
            if importlib.util.find_spec(package) is None:
                fix = "pip install 'custsvc[channels]'"
                raise Wrong("kind", f"the package {package} is not installed", fix)
        url, secret = self._secret(given, "url"), self._secret(given, "secret")
        # The whole URL of a hook is a secret: anyone who knows it can post there.
        redact.know_address(url)
        redact.know(url, secret, *(part for part in url.split("/")[3:] if len(part) >= 8))
        if not url:
            raise Wrong("", "url or url_file is missing")
        if kind == "webhook":
            _check_webhook(url, secret)
        return ChannelConfig(name, kind, url, secret)

    def _secret(self, given: Mapping[str, Any], key: str) -> str:
        """The value of `key`, or the content of the file that `key_file` names."""
        file = given.get(f"{key}_file")
        if file is None:
            return str(given.get(key, ""))
        try:
            return (self.path.parent / str(file)).read_text(encoding="utf-8-sig").strip()
        except (OSError, ValueError) as exc:  # ValueError: it is not UTF-8, or its name holds NUL
            why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
            raise Wrong(
                f"{key}_file", f"{str(file)!r} cannot be read ({why})", "make it readable, as UTF-8"
            ) from exc

    # -- rules ---------------------------------------------------------------------------------------------

    def _rule(self, number: int, given: Any) -> None:
        header, label = r"\[\[rule\]\]", f"rule {number + 1}"
        try:
            if not isinstance(given, dict):
                raise Wrong("", "must be a table")
            _keys(given, _RULE_KEYS)
            rule = self._one_rule(given)
            label = f"rule {rule.name}"
            if any(other.name == rule.name for other in self._rules):
                raise Wrong("name", "there are two rules of this name")
            self._rules.append(rule)
        except Wrong as wrong:
            self._add(self._line(wrong.key, header, number), f"{label}: {wrong}", wrong.fix)
            return
        try:
            self._render(rule)
        except BrokenTemplate as broken:
            self.problems.append(
                Problem(broken.file, broken.line, f"{label}: {broken.problem}", f"correct {broken.file}")
            )

    def _one_rule(self, given: Mapping[str, Any]) -> Rule:
        name = _text(given, "name")
        if not _NAME.fullmatch(name):
            raise Wrong("name", f"{name!r} is no name", "use lower-case letters, digits, - and _")
        channel = _text(given, "channel", MAIL)
        if channel != MAIL and channel not in self._channels:
            raise Wrong("channel", unknown(channel, [MAIL, *self._channels], "channel"))
        if channel != MAIL and "to" in given:
            raise Wrong("to", f"channel {channel} has one receiver, so there is no `to`")
        if channel != MAIL and _seconds(given, "digest"):
            raise Wrong("digest", "only mails can be put together")
        return Rule(
            name=name,
            ops=words(given, "ops", APP_EVENT_TYPE),
            template=_template(given, default=None if channel == MAIL else "event"),
            to=_to(given.get("to", CUSTOMER)),
            changed=changed_fields(given),
            when=tuple(conditions(given.get("when", {}))),
            channel=channel,
            always=_boolean(given, "always"),
            digest=_seconds(given, "digest"),
            bulk=_boolean(given, "bulk"),
        )

    def _render(self, rule: Rule) -> None:
        """Check a template, and render it with sample events of its rule, so that it does not fail later."""
        self._templates.check(rule.template, values(sample.event(min(rule.ops))))
        for op in sorted(rule.ops):
            for bare in (False, True):
                event = sample.event(op, bare=bare)
                content = self._templates.render(
                    rule.template, values(event, "" if rule.always else _SAMPLE_LINK)
                )
                if not content.subject:
                    file = f"{rule.template}.txt"
                    raise BrokenTemplate(file, 1, f"its first line is the subject, and is empty for {op}")

    # -- where ---------------------------------------------------------------------------------------------

    def _add(self, line: int | None, problem: str, fix: str = "") -> None:
        self.problems.append(Problem(str(self.path), line, problem, fix or f"correct {self.path}"))

    def _line(self, key: str, header: str = "", number: int = 0) -> int | None:
        """The line of a key below the table's nth header, or of the header."""
        lines = self._text.splitlines()
        start = 0
        if header:
            heads = [at for at, line in enumerate(lines) if re.match(rf"\s*{header}", line)]
            if number >= len(heads):
                return None
            start = heads[number]
        for at in range(start if not header else start + 1, len(lines)):
            if header and re.match(r"\s*\[", lines[at]):
                break
            if key and re.match(rf'\s*(\[+)?"?{re.escape(key)}"?\s*[\]=.]', lines[at]):
                return at + 1
        return start + 1 if header else None


def _keys(given: Mapping[str, Any], known: Collection[str]) -> None:
    for key in given:
        if key not in known:
            raise Wrong(key, unknown(key, known))


def _text(given: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = given.get(key, default)
    if not isinstance(value, str) or not value:
        raise Wrong(
            key if key in given else "", f"{key} is missing" if value is None else f"{key} must be text"
        )
    return value


def _template(given: Mapping[str, Any], default: str | None) -> str:
    name = _text(given, "template", default)
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", name):
        raise Wrong("template", f"{name!r} is no template's name", "write it without folder and ending")
    return name


def _to(value: Any) -> str | tuple[str, ...]:
    if value in (CUSTOMER, PREVIOUS):
        return str(value)
    addresses = [value] if isinstance(value, str) else value
    if not isinstance(addresses, list) or not addresses:
        raise Wrong("to", f"to must be {CUSTOMER}, {PREVIOUS}, an address or a list of addresses")
    try:
        return tuple(one_address(address).spec for address in addresses)
    except BadAddress as exc:
        raise Wrong("to", f"to must be {CUSTOMER}, {PREVIOUS} or addresses: {exc}") from exc


def _boolean(given: Mapping[str, Any], key: str) -> bool:
    value = given.get(key, False)
    if not isinstance(value, bool):
        raise Wrong(key, f"{key} must be true or false")
    return value


def _seconds(given: Mapping[str, Any], key: str) -> float:
    value = given.get(key, 0)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not (value == 0 or 1 <= value <= _DIGEST_MAX):
        raise Wrong(key, f"{key} must be seconds, from 1 to {_DIGEST_MAX}, or 0 for none")
    return float(value)


def _check_webhook(url: str, secret: str) -> None:
    try:
        parts = urlsplit(url)
        host_name(parts.hostname or "")
        if parts.port == 0:
            raise ValueError("no server has the port 0")
    except ValueError as exc:
        raise Wrong("url", f"the address of a webhook is wrong: {exc}", "https://host:port/path") from exc
    if parts.scheme not in ("https", "http"):
        raise Wrong("url", "the address of a webhook begins with https://")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise Wrong("url", "a webhook must not go over the net in clear text", "use https://")
    if not secret:
        raise Wrong("", "secret or secret_file is missing", "make one: echo whsec_$(openssl rand -base64 24)")
    from standardwebhooks import Webhook

    try:
        Webhook(secret)
    except (RuntimeError, ValueError) as exc:
        raise Wrong(
            "secret", f"the secret is not valid: {exc}", "make one: echo whsec_$(openssl rand -base64 24)"
        ) from exc


__all__ = ["Problem", "findings", "load"]
