"""The pages of the mails that the mail catcher of `up` has caught."""

from __future__ import annotations

from email.message import EmailMessage
from typing import Any, Final

from flask import Blueprint, Response, render_template

from ..errors import NotFound
from ..runtime.extras import NotInstalled
from .access import needs, route, services
from .security import isolated

_SHOWN: Final = 100


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, "/ui/mailbox", mailbox)
    route(blueprint, "/ui/mailbox/<mail_id>", one)
    route(blueprint, "/ui/mailbox/<mail_id>/html", html)


def folder() -> Any:
    """The mailbox of the mail catcher on this machine; None if mails go to another server."""
    settings = services().settings
    if not settings.smtp_url.startswith("smtp+plain://127.0.0.1:"):
        return None
    try:
        from ..local import LocalServers
        from ..local.mail import Mailbox
    except NotInstalled:
        return None
    path = LocalServers(settings.data_dir).home / "mail" / "mails"
    return Mailbox(path) if path.is_dir() else None


@needs("admin")
def mailbox() -> Any:
    box = folder()
    if box is None:
        raise NotFound("no mail catcher runs here; `custsvc up` has one")
    mails = box.messages()
    return render_template("mails/mailbox.html", mails=mails[::-1][:_SHOWN], total=len(mails))


@needs("admin")
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


@needs("admin")
def html(mail_id: str) -> Response:
    """The HTML of a mail, isolated."""
    body = _caught(mail_id)[1].get_body(("html",))
    return isolated(body.get_content() if body else "")


def _caught(mail_id: str) -> tuple[Any, EmailMessage]:
    box = folder()
    for mail in box.messages() if box else ():
        if mail.id == mail_id:
            return mail, mail.message()
    raise NotFound("there is no such mail")
