"""The page behind the link in mails: a customer unsubscribes from mails, or subscribes again.

Opening it changes nothing, as mail programs and scanners open every link; only the button does, and the
one-click POST of mail programs (RFC 8058). The signed link is the permission, so it needs no key.
"""

from __future__ import annotations

from typing import ClassVar, Final

from flask import Flask, Response, request
from flask.views import MethodView
from markupsafe import Markup
from werkzeug.exceptions import NotFound

from ..http.guard import address_of
from ..http.resource import Services
from ..notify.channels.unsubscribe import PATH, BadLink, UnsubscribeLinks
from ..ports.accounts import Role
from ..ports.recipients import EVERY_RULE

_POLICY: Final = "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
_HEADERS: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Robots-Tag": "noindex",
}
_PAGE: Final = Markup(
    '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>'
    '<meta name="viewport" content="width=device-width, initial-scale=1"></head>\n'
    "<body>\n<main>\n<h1>{title}</h1>\n<p>{text}</p>\n{form}</main>\n</body>\n</html>\n"
)
_FORM: Final = Markup(
    '<form method="post"><button type="submit" name="wanted" value="{wanted}">{label}</button></form>\n'
)


class Unsubscribe(MethodView):
    """`/unsubscribe/TOKEN`"""

    init_every_request: ClassVar[bool] = False
    body_max: ClassVar[int] = 4096

    def __init__(self, services: Services) -> None:
        self._recipients = services.store.recipients
        self._secret = services.store.secret
        self._tries = services.tries
        self._links: UnsubscribeLinks | None = None

    @classmethod
    def role(cls, method: str) -> Role | None:
        """None: the link is the permission."""
        del method
        return None

    def get(self, token: str) -> Response:
        """The page with the button."""
        customer_id = self._customer(token)
        if EVERY_RULE in self._recipients.unwanted([customer_id]).get(customer_id, set()):
            return _unsubscribed(customer_id)
        text = f"Send no more mails about changes of customer number {customer_id}?"
        return _page("Unsubscribe", text, _FORM.format(wanted="no", label="Unsubscribe"))

    def post(self, token: str) -> Response:
        """Unsubscribe, or with `wanted=yes` subscribe again."""
        customer_id = self._customer(token)
        wanted = request.form.get("wanted") == "yes"
        self._recipients.set_wanted(customer_id, EVERY_RULE, wanted)
        if not wanted:
            return _unsubscribed(customer_id)
        text = f"Mails about changes of customer number {customer_id} are sent again."
        return _page("Subscribed", text, _FORM.format(wanted="no", label="Unsubscribe"))

    def _customer(self, token: str) -> int:
        if self._links is None:
            self._links = UnsubscribeLinks(self._secret(), "")
        try:
            return self._links.customer(token)
        except BadLink as exc:
            self._tries.check(f"tries of {address_of(request.environ)}")
            raise NotFound(str(exc)) from exc


def add_to(app: Flask, services: Services) -> None:
    """Serve the page."""
    view = Unsubscribe.as_view("unsubscribe", services)
    for path in (f"{PATH}<token>", f"{PATH}<token>/"):
        app.add_url_rule(path, view_func=view)


def _unsubscribed(customer_id: int) -> Response:
    text = f"No more mails about changes of customer number {customer_id} are sent, but those that must be."
    return _page("Unsubscribed", text, _FORM.format(wanted="yes", label="Subscribe again"))


def _page(title: str, text: str, form: Markup) -> Response:
    return Response(_PAGE.format(title=title, text=text, form=form), headers=_HEADERS)
