"""The page of the rules of mails: shows them, and previews a mail of a rule.

The rules file is configuration, so nothing is edited here. Addresses and secrets of channels are not shown.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from flask import Blueprint, Response, render_template, request

from ...domain.events import APP_EVENT_TYPE
from ...errors import CustsvcError
from ...notify.preview import Preview, preview
from ...notify.rules.file import findings, load
from ...notify.rules.rules import Condition
from ..access import needs, route, services
from ..security import isolated

_PATH: Final = "/ui/admin/rules"
_SHOWN: Final = 20
# Ops that a rule can see; `snapshot` comes only from `replay`.
_OPS: Final = tuple(APP_EVENT_TYPE)


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, _PATH, index)
    route(blueprint, f"{_PATH}/html", html)


@needs("admin")
def index() -> Any:
    settings = services().settings
    problems = findings(settings)
    rules = None if problems else load(settings)
    mails, wrong = _previews() if rules else ([], None)
    return render_template(
        "admin/rules.html",
        path=settings.notify_rules or None,
        problems=problems[:_SHOWN],
        rules=[(rule, [_said(each) for each in rule.when]) for rule in rules.rules] if rules else [],
        channels=list(rules.channels.values()) if rules else [],
        mails=mails[:_SHOWN],
        wrong=wrong,
        asked=_asked(),
        ops=_OPS,
        is_asked=bool(request.args),
        frame=lambda number: f"{_PATH}/html?" + urlencode({**_asked(), "number": number}),
    )


@needs("admin")
def html() -> Response:
    """The HTML of one mail of the preview, isolated."""
    mails, _ = _previews()
    number = request.args.get("number", "")
    at = int(number) if number.isdecimal() and len(number) < 4 else len(mails)
    return isolated(mails[at].html or "" if at < len(mails) else "")


def _asked() -> dict[str, str]:
    """The event to preview: a kind of sample, or `of`: CUSTOMER or CUSTOMER.VERSION; and one rule, or all."""
    names = ("rule", "op", "of")
    return {name: text for name in names if (text := request.args.get(name, "").strip()[:200])}


def _previews() -> tuple[list[Preview], str | None]:
    """The mails for the event asked for, and why there can be none."""
    asked = _asked()
    if "of" not in asked and "op" not in asked:
        return [], None
    op = None if "of" in asked else asked["op"]
    try:
        found = preview(services().settings, services().store, event=asked.get("of"), op=op)
    except CustsvcError as exc:
        return [], str(exc)
    return [mail for mail in found if asked.get("rule") in (None, mail.rule)], None


def _said(condition: Condition) -> str:
    """A condition in words: `metadata.plan is gold`."""
    if condition.test == "there":
        return f"{condition.field} is {'there' if condition.value else 'not there'}"
    value = condition.value
    listed = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"{condition.field} {condition.test.replace('_', ' ')} {listed}"
