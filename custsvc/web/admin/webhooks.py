"""The pages of webhook endpoints: all of them, and one with its log and what can be done with it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

from flask import Blueprint, g, redirect, render_template, request
from werkzeug.datastructures import MultiDict

from ...domain.events import APP_EVENT_TYPE
from ...domain.strict_json import parse_json
from ...errors import Conflict, FieldError, NotFound, ValidationError
from ...http.problems import bad_parameter
from ...notify.endpoints.fields import DESCRIPTION_MAX, OPS_DEFAULT, URL_MAX, shown
from ...notify.endpoints.manage import Managed
from ...ports.endpoints import Endpoint
from ...ports.ledger import Place
from .. import once, toast
from ..access import needs, route, services
from .common import check_writable, note

PATH: Final = "/ui/admin/webhooks"
_ONE: Final = f"{PATH}/one"
# Most deliveries of a page.
_PAGE: Final = 50
_STATES: Final = ("queued", "deferred", "sent", "failed", "discarded")
_ID_MAX: Final = 100
# The changes first.
_OPS: Final = (*OPS_DEFAULT, *(op for op in APP_EVENT_TYPE if op not in OPS_DEFAULT))


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, PATH, index)
    route(blueprint, f"{PATH}/create", create, "POST")
    route(blueprint, _ONE, one)
    route(blueprint, f"{_ONE}/change", change, "POST")
    route(blueprint, f"{_ONE}/do", do, "POST")


def _managed() -> Managed:
    return Managed(services().store, services().settings)


# -- all of them -------------------------------------------------------------------------------------------


@needs("admin")
def index() -> Any:
    return _index()


def _index(**more: Any) -> str:
    return render_template(
        "admin/webhooks.html",
        endpoints=[shown(each) for each in _managed().all()],
        form=request.form if "errors" in more else MultiDict([("ops", op) for op in OPS_DEFAULT]),
        ops=_OPS,
        all_changes=OPS_DEFAULT,
        url_max=URL_MAX,
        description_max=DESCRIPTION_MAX,
        **more,
    )


@needs("admin")
def create() -> Any:
    """Make an endpoint, and show its secret this once."""
    check_writable()
    secret = []

    def made() -> dict[str, Any]:
        endpoint, text = _managed().create(_body(), g.principal.name)
        secret.append(text)
        note("webhook_created", f"created the webhook endpoint {endpoint.id}", endpoint=endpoint.id)
        return {"id": endpoint.id}

    try:
        answer = once.answer(made)
    except ValidationError as exc:
        return _index(errors=_errors(exc)), 400
    except Conflict as exc:
        toast.put(f"{exc}.", kind="bad")
        return redirect(PATH, 303)
    return _index(made=answer["id"], secret=secret[0] if secret else None)


# -- one of them -------------------------------------------------------------------------------------------


@needs("admin")
def one() -> Any:
    return _one(_managed().find(request.args.get("id", "")[:_ID_MAX]))


def _one(endpoint: Endpoint, **more: Any) -> str:
    managed, store = _managed(), services().store
    state = request.args.get("state", "")
    state = state if state in _STATES else ""
    found = managed.deliveries(endpoint.id, state=state or None, limit=_PAGE + 1, after=_place())
    page = found[:_PAGE]
    return render_template(
        "admin/webhook.html",
        endpoint=shown(endpoint),
        waiting=managed.waiting(endpoint),
        form=request.form if "errors" in more else _form(endpoint),
        deliveries=page,
        attempts=store.ledger.attempts([each.id for each in page]),
        older=_older(endpoint, state, page[-1].created_on, page[-1].id) if len(found) > _PAGE else None,
        state=state,
        states=_STATES,
        ops=_OPS,
        url_max=URL_MAX,
        description_max=DESCRIPTION_MAX,
        **more,
    )


def _place() -> Place | None:
    """Where the page of the log begins; None at its beginning, or for a place that cannot be read."""
    try:
        before = dt.datetime.fromisoformat(request.args["before"])
        return Place(before, request.args.get("than", "")[:_ID_MAX])
    except (KeyError, ValueError):
        return None


def _older(endpoint: Endpoint, state: str, created_on: dt.datetime | None, id_: str) -> str:
    before = created_on.isoformat() if created_on else ""
    asked = {"id": endpoint.id, "state": state, "before": before, "than": id_}
    return f"{_ONE}?{urlencode({name: value for name, value in asked.items() if value})}#h-log"


@needs("admin")
def change() -> Any:
    check_writable()
    id_ = request.form.get("id", "")[:_ID_MAX]
    try:
        _managed().change(id_, _body())
    except ValidationError as exc:
        return _one(_managed().find(id_), errors=_errors(exc)), 400
    note("webhook_changed", f"changed the webhook endpoint {id_}", endpoint=id_)
    toast.put("The endpoint is changed.")
    return redirect(_address(id_), 303)


def _address(id_: str) -> str:
    """The page of an endpoint."""
    return f"{_ONE}?{urlencode({'id': id_})}"


@needs("admin")
def do() -> Any:
    """Pause, resume, test or delete an endpoint, send a delivery again, or replace the secret."""
    check_writable()
    id_, action = request.form.get("id", "")[:_ID_MAX], request.form.get("action", "")
    if action == "rotate":
        return _rotate(id_)
    work = _ACTIONS.get(action)
    if work is None:
        raise bad_parameter("action", f"must be one of {', '.join((*_ACTIONS, 'rotate'))}")
    try:
        toast.put(once.answer(lambda: {"text": work(_managed(), id_)})["text"])
    except (Conflict, NotFound) as exc:
        toast.put(f"{exc}.", kind="bad")
    else:
        note(f"webhook_{action}", f"did {action} to the webhook endpoint {id_}", endpoint=id_)
    return redirect(PATH if action == "delete" else _address(id_), 303)


def _rotate(id_: str) -> Any:
    secret = []

    def made() -> dict[str, Any]:
        secret.append(_managed().rotate(id_))
        note("webhook_rotate", f"replaced the secret of the webhook endpoint {id_}", endpoint=id_)
        return {"id": id_}

    once.answer(made)
    return _one(_managed().find(id_), rotated=True, secret=secret[0] if secret else None)


def _paused(managed: Managed, id_: str) -> str:
    managed.pause(id_, g.principal.name)
    return "The endpoint is paused: what is to be sent there waits."


def _resumed(managed: Managed, id_: str) -> str:
    managed.resume(id_)
    return "The endpoint is resumed: what waits is sent now."


def _tested(managed: Managed, id_: str) -> str:
    managed.test(id_)
    return "A test will be sent; it appears in the log."


def _deleted(managed: Managed, id_: str) -> str:
    managed.remove(id_)
    return "The endpoint is deleted."


def _redelivered(managed: Managed, id_: str) -> str:
    managed.redeliver(id_, request.form.get("delivery", "")[:_ID_MAX])
    return "The delivery will be sent again."


_ACTIONS: Final[dict[str, Callable[[Managed, str], str]]] = {
    "pause": _paused,
    "resume": _resumed,
    "test": _tested,
    "delete": _deleted,
    "redeliver": _redelivered,
}


# -- forms -------------------------------------------------------------------------------------------------


def _body() -> dict[str, Any]:
    """The form's fields as the API takes them. Raises ValidationError."""
    form = request.form
    return {
        "url": form.get("url", "").strip(),
        "ops": form.getlist("ops"),
        "changed": [name.strip() for name in form.get("changed", "").split(",") if name.strip()],
        "when": _when(form.get("when", "")),
        "payload": form.get("payload", ""),
        "email": form.get("email", "").strip() or None,
        "description": form.get("description", "").strip(),
    }


def _when(text: str) -> Any:
    try:
        return parse_json(text) if text.strip() else {}
    except (ValueError, RecursionError) as exc:
        what = 'is not JSON, as {"metadata.plan": "gold"}'
        raise ValidationError([FieldError("when", "bad_value", what)]) from exc


def _form(endpoint: Endpoint) -> MultiDict[str, str]:
    """The values of an endpoint for its form."""
    return MultiDict(
        [
            ("url", endpoint.url),
            *(("ops", op) for op in endpoint.ops),
            ("changed", ", ".join(endpoint.changed)),
            ("when", "" if endpoint.conditions == "{}" else endpoint.conditions),
            ("payload", endpoint.payload),
            ("email", endpoint.email or ""),
            ("description", endpoint.description),
        ]
    )


def _errors(exc: ValidationError) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in exc.errors:
        found.setdefault(each.field, []).append(each.message)
    return found
