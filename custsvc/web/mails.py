"""The list of mails: found by address, rule, state and date; failed ones are sent again or given up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from flask import Blueprint, g, redirect, render_template, request

from ..ports.ledger import DISCARDABLE, RETRIABLE, MailRecords, Notification
from . import caught, once, toast
from .access import route, services
from .forms import action_of
from .times import end_of, time_of
from .words import plural

_SHOWN: Final = 100
_STATES: Final = ("queued", "deferred", "sent", "failed", "unknown", "suppressed", "discarded")

# Fields of the address besides the state.
_FIELDS: Final = ("to", "rule", "from", "until")


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, "/ui/mails", index)
    route(blueprint, "/ui/mails/change", change, "POST")


@dataclass(frozen=True, slots=True)
class Asked:
    """Which mails the address asks for: `to` is how the address begins, the dates are days in UTC."""

    given: dict[str, str]

    @classmethod
    def of_request(cls) -> Asked:
        given = {name: text for name in _FIELDS if (text := request.args.get(name, "").strip()[:254])}
        if (state := request.args.get("state", "")) in _STATES:
            given["state"] = state
        return cls(given)

    @property
    def state(self) -> str:
        return self.given.get("state", "")

    @property
    def wrong(self) -> list[str]:
        """The invalid dates."""
        return [text for name in ("from", "until") if (text := self.given.get(name)) and not time_of(text)]

    def day(self, name: str) -> str:
        """The day in a date field, as the field takes it; empty for an invalid date."""
        time = time_of(self.given.get(name, ""))
        return f"{time.date()}" if time else ""

    def find(self, ledger: MailRecords) -> list[Notification]:
        return ledger.recent(
            state=self.state or None,
            recipient_prefix=self.given.get("to"),
            rule=self.given.get("rule"),
            since=time_of(self.given.get("from", "")),
            until=end_of(self.given.get("until", "")),
            limit=_SHOWN,
        )

    def href(self, path: str = "/ui/mails", **other: str | None) -> str:
        """The address of this list, or of another state of it."""
        chosen = {name: text for name, text in {**self.given, **other}.items() if text}
        return f"{path}?{urlencode(chosen)}" if chosen else path


def index() -> Any:
    ledger, asked = services().store.ledger, Asked.of_request()
    mails = asked.find(ledger)
    return render_template(
        "mails/list.html",
        asked=asked,
        mails=mails,
        attempts=ledger.attempts([mail.id for mail in mails]),
        counts=ledger.counts(),
        states=_STATES,
        state=asked.state,
        is_filtered=any(name in asked.given for name in _FIELDS),
        retriable=RETRIABLE,
        discardable=DISCARDABLE,
        has_mailbox=caught.folder() is not None and g.principal.may("admin"),
        shown=_SHOWN,
    )


def change() -> Any:
    """Send the chosen mails again, or give them up."""
    action = action_of(("retry", "discard"))
    ids = [each for each in request.form.getlist("ids") if len(each) <= 200][:_SHOWN]
    if not ids:
        toast.put("Choose some mails first.", kind="bad")
    else:
        toast.put(once.answer(lambda: {"text": _changed(ids, action)})["text"])
    return redirect(Asked.of_request().href(), 303)


def _changed(ids: list[str], action: str) -> str:
    """Send or give up the mails; the message for the user."""
    if action == "discard":
        done = services().store.ledger.discard(ids, "given up by hand on the pages")
        return f"Gave up {plural(len(done), 'mail')}.{_rest(ids, done)}"
    done = services().store.ledger.retry(ids)
    return f"{plural(len(done), 'mail')} will be sent again.{_rest(ids, done)}"


def _rest(ids: list[str], done: list[str]) -> str:
    left = len(ids) - len(done)
    return f" {plural(left, 'other')} could not be: their state does not allow it." if left else ""
