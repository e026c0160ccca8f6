"""Tries out rules and templates before customers see them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..config import Settings
from ..domain.address import BadAddress, one_address
from ..domain.events import APP_EVENT_TYPE
from ..domain.received import ReceivedEvent, decode
from ..errors import BadArgument, Conflict, NotFound
from ..ports.ledger import Notification
from ..ports.store import Store
from ..stores import open_store
from .channels.channel import BadMail, Outcome
from .channels.message import compose, sender_address
from .channels.server import Server, Timeouts
from .channels.smtp import SmtpTransport
from .channels.unsubscribe import UnsubscribeLinks
from .intake.notifications import notifications_of
from .rules import sample
from .rules.file import load
from .rules.templates import BUILT_IN


class Preview(NamedTuple):
    """A notification that an event would send."""

    rule: str
    channel: str
    recipient: str
    subject: str
    text: str
    html: str | None


def preview(
    settings: Settings, store: Store, *, event: str | None = None, op: str | None = None
) -> list[Preview]:
    """What an event of this store would send, or a sample event of kind `op`.

    Raises NotFound, BadArgument, and ConfigurationError for the rules.
    """
    found = _sample(op) if op is not None else _stored(store, event or "")
    return _of(found, settings)


def previews(settings: Settings, event: str | None, op: str | None) -> list[dict[str, Any]]:
    """The same as plain data, of the store of these settings; a sample needs none."""
    if op is not None:
        return [each._asdict() for each in _of(_sample(op), settings)]
    with open_store(settings) as store:
        return [each._asdict() for each in preview(settings, store, event=event)]


def _of(event: ReceivedEvent, settings: Settings) -> list[Preview]:
    rules = load(settings)
    links = UnsubscribeLinks(b"sample", settings.public_url) if settings.public_url else None
    made = notifications_of(event, rules, links)
    return [Preview(*(getattr(each, name) for name in Preview._fields)) for each in made]


def send_sample(settings: Settings, to: str, rule_name: str) -> Outcome:
    """Send one sample mail of a rule to an address, bypassing the ledger."""
    rules = load(settings)
    rule = next((each for each in rules.rules if each.name == rule_name), None)
    if rule is None:
        names = ", ".join(each.name for each in rules.rules)
        raise NotFound(f"there is no rule {rule_name}", fix=f"rules: {names}")
    server, sender = Server.parse(settings.smtp_url), sender_address(settings.mail_from)
    event = sample.event(min(rule.ops))
    try:
        recipient = one_address(to).spec
    except BadAddress as exc:
        raise BadArgument(f"{to} is no address: {exc}", fix="give one address") from exc
    one_rule = dataclasses.replace(rules, rules=(dataclasses.replace(rule, to=(recipient,), when=()),))
    made: list[Notification] = notifications_of(event, one_rule, None)
    transport = SmtpTransport(server, Timeouts.of(settings))
    try:
        return transport.send(compose(made[0], sender, dt.datetime.now(dt.UTC)), lambda: True)
    except (BadMail, IndexError) as exc:
        return Outcome("failed", None, str(exc))
    finally:
        transport.quit()


def copy_defaults(folder: Path) -> Iterator[Path]:
    """Copy the built-in rules and templates; return the paths written.

    Raises Conflict if one exists, and BadArgument if the folder cannot be written to.
    """
    wanted = (".toml", ".txt", ".html")
    files = [path.relative_to(BUILT_IN) for path in sorted(BUILT_IN.rglob("*")) if path.suffix in wanted]
    try:
        for path in files:
            if (folder / path).exists():
                raise Conflict(f"{folder / path} is there already", fix="name another folder")
        for path in files:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(BUILT_IN / path, folder / path)
            yield folder / path
    except OSError as exc:
        what = f"{folder} cannot be written to ({exc.strerror})"
        raise BadArgument(what, fix="name another folder") from exc


def _sample(op: str) -> ReceivedEvent:
    if op not in APP_EVENT_TYPE:
        raise BadArgument(f"there is no kind of event {op!r}", fix=f"kinds: {', '.join(APP_EVENT_TYPE)}")
    return sample.event(op)


def _stored(store: Store, wanted: str) -> ReceivedEvent:
    customer_id, version = _coordinates(store, wanted)
    before = None if version is None else version + 1
    events = store.customers.history(customer_id, limit=1, before_version=before)
    if not events:
        raise NotFound(f"there is no event {wanted}", fix="name it by CUSTOMER or CUSTOMER.VERSION")
    return decode(events[0], b"%d" % customer_id)


def _coordinates(store: Store, wanted: str) -> tuple[int, int | None]:
    if match := re.fullmatch(r"([1-9][0-9]{0,18})(?:\.([1-9][0-9]{0,8}))?", wanted):
        return int(match[1]), int(match[2]) if match[2] else None
    for each in store.ledger.recent(event_id=wanted, limit=1):
        if each.customer_id is not None:
            return each.customer_id, each.version
    raise NotFound(
        f"no notification was made for an event {wanted}", fix="name it by CUSTOMER or CUSTOMER.VERSION"
    )
