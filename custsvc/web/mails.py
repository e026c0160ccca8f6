"""The pages of mails: the state of each notification, and the mails caught by the mail catcher of `up`."""

from __future__ import annotations

from email.message import EmailMessage
from typing import Any, Final

from flask import Blueprint, Response, redirect, render_template, request

from ..errors import NotFound
from ..ports.ledger import DISCARDABLE, RETRIABLE
from ..runtime.extras import NotInstalled
from . import once, toast
from .access import route, services
from .words import plural

_SHOWN: Final = 100
_STATES: Final = ("queued", "deferred", "sent", "failed", "unknown", "suppressed", "discarded")

# The HTML of a mail is not ours: it may use styles, and nothing more.
_MAIL_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'self'"
)


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, "/ui/mails", index)
    route(blueprint, "/ui/mails/change", change, "POST")
    route(blueprint, "/ui/mailbox", mailbox)
    route(blueprint, "/ui/mailbox/<mail_id>", one)
    route(blueprint, "/ui/mailbox/<mail_id>/html", html)


def index() -> Any:
    ledger = services().store.ledger
    state = request.args.get("state", "")
    state = state if state in _STATES else ""
    recipient = request.args.get("to", "").strip() or None
    mails = ledger.recent(state=state or None, recipient=recipient, limit=_SHOWN)
    return render_template(
        "mails/list.html",
        mails=mails,
        attempts=ledger.attempts([mail.id for mail in mails]),
        counts=ledger.counts(),
        states=_STATES,
        state=state,
        recipient=recipient or "",
        retriable=RETRIABLE,
        discardable=DISCARDABLE,
        has_mailbox=_folder() is not None,
        shown=_SHOWN,
    )


def change() -> Any:
    """Send the chosen mails again, or give them up."""
    ids = [each for each in request.form.getlist("ids") if len(each) <= 200][:_SHOWN]
    state = request.form.get("state", "")
    back = f"/ui/mails?state={state}" if state in _STATES else "/ui/mails"
    if not ids:
        toast.put("Choose some mails first.", kind="bad")
    else:
        toast.put(once.answer(lambda: {"text": _changed(ids)})["text"])
    return redirect(back, 303)


def _changed(ids: list[str]) -> str:
    """Send or give up the mails; the message for the user."""
    if request.form.get("action") == "discard":
        done = services().store.ledger.discard(ids, "given up by hand on the pages")
        return f"Gave up {plural(len(done), 'mail')}.{_rest(ids, done)}"
    done = services().store.ledger.retry(ids)
    return f"{plural(len(done), 'mail')} will be sent again.{_rest(ids, done)}"


def _rest(ids: list[str], done: list[str]) -> str:
    left = len(ids) - len(done)
    return f" {plural(left, 'other')} could not be: their state does not allow it." if left else ""


# -- caught mails ------------------------------------------------------------------------------------------


def _folder() -> Any:
    """The mailbox of the mail catcher on this machine; None if mails go to another server."""
    settings = services().settings
    if not settings.smtp_url.startswith("smtp+plain://127.0.0.1:"):
        return None
    try:
        from ..local import LocalServers
        from ..local.mail import Mailbox
    except NotInstalled:
        return None
    folder = LocalServers(settings.data_dir).home / "mail" / "mails"
    return Mailbox(folder) if folder.is_dir() else None


def mailbox() -> Any:
    folder = _folder()
    if folder is None:
        raise NotFound("no mail catcher runs here; `custsvc up` has one")
    mails = folder.messages()
    return render_template("mails/mailbox.html", mails=mails[::-1][:_SHOWN], total=len(mails))


def one(mail_id: str) -> Any:
    mail, message = _caught(mail_id)
    text = message.get_body(("plain",))
    return render_template(
        "mails/one.html",
        mail=mail,
        headers=[(name, str(value)) for name, value in message.items()],
        text=text.get_content() if text else None,
        has_html=message.get_body(("html",)) is not None,
    )


def html(mail_id: str) -> Response:
    """The HTML of a mail, isolated: no scripts, no requests to other sites, no access to our pages."""
    body = _caught(mail_id)[1].get_body(("html",))
    content = body.get_content() if body else ""
    response = Response(content, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = _MAIL_POLICY
    response.headers["X-Frame-Options"] = "SAMEORIGIN"
    return response


def _caught(mail_id: str) -> tuple[Any, EmailMessage]:
    folder = _folder()
    for mail in folder.messages() if folder else ():
        if mail.id == mail_id:
            return mail, mail.message()
    raise NotFound("there is no such mail")
