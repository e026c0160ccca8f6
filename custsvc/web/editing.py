"""Create and edit a customer, and merge the edits of two users."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import orjson
from flask import Blueprint, g, redirect, render_template, request

from ..domain.canonical import canonical_fields, edited
from ..domain.customers import EDITABLE, INT64_MAX, Customer, Fields, Stored, same_json
from ..domain.strict_json import parse_json
from ..errors import Conflict, CustomerDeleted, FieldError, NotFound, ValidationError, VersionConflict
from . import once, toast
from .access import needs, route, services
from .duplicates import Alike, likely, unseen
from .forms import KINDS, CustomerForm, kind_of
from .merge import ABSENT, Merge, flat, merge, nested
from .words import FIELDS

# Events that are read at once.
_PAGE: Final = 100


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, "/ui/customers/new", new, "GET", "POST")
    route(blueprint, "/ui/customers/<id:customer_id>/edit", edit, "GET", "POST")
    route(blueprint, "/ui/customers/<id:customer_id>/resolve", resolve, "POST")


@needs("write")
def new() -> Any:
    if request.method == "GET":
        return _form(CustomerForm())
    form = CustomerForm.of_request(request.form)
    fields = _checked(form)
    if fields is None:
        return _form(form), 400
    if once.done() is None:
        found = likely(fields)
        # A simultaneous request with the same form may just have made the customer that was found.
        if unseen(found) and once.done() is None:
            return _form(form, likely=found), 409
    stored = once.change(lambda who: services().customers.create(fields, who))
    toast.put(f"{fields.name} was added.", undo=f"{_path(stored.id)}/delete", fields={"version": "1"})
    return redirect(_path(stored.id), 303)


@needs("write")
def edit(customer_id: int) -> Any:
    if request.method == "GET":
        stored = services().customers.get(customer_id)
        return _form(CustomerForm.of_customer(stored.customer().fields), stored)
    opened = _version("version")
    stored = _stored(customer_id)
    _check_erased(stored, opened)
    before = _fields_at(stored, opened)
    form = CustomerForm.of_request(request.form, before)
    fields = _checked(form, before)
    if fields is None:
        return _form(form, stored, opened), 400
    if "restore" in request.form:
        restored = once.change(lambda who: services().customers.restore(customer_id, who), "restore")
        _check_erased(restored, opened)
        opened = restored.version
    return _save(customer_id, opened, fields, form)


@needs("write")
def resolve(customer_id: int) -> Any:
    """Apply the choices of a conflict, or show it again if the customer has changed since."""
    base_version, seen = _version("base"), _version("version")
    if (before := once.done()) is not None:
        return _saved(before, seen, [])
    _check_erased(_stored(customer_id), base_version)
    mine = _mine(customer_at(customer_id, base_version).fields)
    picks = {name.removeprefix("pick:"): v for name, v in request.form.items() if name.startswith("pick:")}
    stored = services().customers.get(customer_id)
    picks = picks if stored.version == seen else {}
    return _merged(stored, base_version, mine, picks)


def _save(customer_id: int, opened: int, fields: Fields, form: CustomerForm) -> Any:
    try:
        stored = once.change(
            lambda who: services().customers.replace(customer_id, fields, who, expected=opened)
        )
    except VersionConflict as exc:
        current = exc.current or _stored(customer_id)
        if current.deleted:
            return _gone(form, current, opened)
        return _merged(current, opened, fields, {})
    except CustomerDeleted:
        return _gone(form, _stored(customer_id), opened)
    return _saved(stored, opened, [])


def _gone(form: CustomerForm, current: Stored, opened: int) -> Any:
    """The form of a customer that was deleted since it was opened."""
    _check_erased(current, opened)
    return _form(form, current, opened, gone=True), 409


def _merged(current: Stored, base_version: int, mine: Fields, picks: dict[str, str]) -> Any:
    """Merge with `current` and save, or ask about the clashes."""
    _check_erased(current, base_version)
    base = customer_at(current.id, base_version).fields
    result = merge(base, current.customer().fields, mine, picks)
    if result.clashes:
        return _ask(current, base_version, mine, result), 409
    fields, version = result.fields(), current.version
    try:
        stored = once.change(
            lambda who: services().customers.replace(current.id, fields, who, expected=version)
        )
    except VersionConflict as exc:
        return _merged(exc.current or _stored(current.id), base_version, mine, {})
    return _saved(stored, current.version, result.taken)


def _ask(current: Stored, base_version: int, mine: Fields, result: Merge) -> str:
    return render_template(
        "customers/conflict.html",
        current=current.customer(),
        base_version=base_version,
        mine=orjson.dumps(nested(flat(mine))).decode(),
        clashes=result.clashes,
        taken=[label(name) for name in result.taken],
        label=label,
        kind=_kind,
    )


def _kind(name: str, value: Any) -> str:
    """The kind of a metadata value, which distinguishes the text "12" from the number 12."""
    return kind_of(value) if name not in FIELDS and value is not ABSENT else ""


def _mine(base: Fields) -> Fields:
    """The user's fields from before the conflict, which the page has kept. Raises ValidationError."""
    try:
        body: dict[str, Any] = dict(parse_json(request.form.get("mine", "")).items())
        changed = {n: body[n] for n in EDITABLE if n in body and not same_json(body[n], getattr(base, n))}
    except (ValueError, AttributeError, RecursionError) as exc:
        raise ValidationError([FieldError("mine", "bad_json", "is not what the page sent")]) from exc
    return edited(base, changed)


def _saved(stored: Stored, before: int, taken: list[str]) -> Any:
    path = _path(stored.id)
    if stored.version == before:
        toast.put("Nothing was changed.")
        return redirect(path, 303)
    text = "Saved."
    if taken:
        text = f"Saved, together with what others changed: {', '.join(label(name) for name in taken)}."
    fields = {"to": str(stored.version - 1), "version": str(stored.version)}
    toast.put(text, undo=f"{path}/revert", fields=fields)
    return redirect(path, 303)


def _checked(form: CustomerForm, before: Fields | None = None) -> Fields | None:
    """The fields of a form; None if it has errors, which the form then shows.

    Fields that the user did not touch keep their bytes in `before`.
    """
    body = form.body(before)
    if body is None:
        return None
    try:
        return edited(before, body) if before else canonical_fields(body)
    except ValidationError as exc:
        form.refuse(exc.errors)
        return None


def _form(
    form: CustomerForm,
    stored: Stored | None = None,
    opened: int | None = None,
    *,
    gone: bool = False,
    likely: Sequence[Alike] = (),
) -> str:
    return render_template(
        "customers/form.html",
        form=form,
        kinds=KINDS,
        customer=stored.customer() if stored else None,
        version=opened or (stored.version if stored else None),
        gone=gone,
        likely=likely,
        asks=True,
        actor=g.principal.name,
    )


def _fields_at(stored: Stored, version: int) -> Fields:
    customer = stored.customer() if stored.version == version else customer_at(stored.id, version)
    return customer.fields


def _check_erased(current: Stored, opened: int) -> None:
    """Refuse a form that was opened before an erasure, as it still has what was erased. Raises Conflict."""
    below = current.version + 1
    while below > opened + 1:
        events = services().store.customers.history(current.id, limit=_PAGE, before_version=below)
        for event in map(orjson.loads, events):
            if event["op"] == "erased" and event["version"] > opened:
                text = f"customer {current.id} was erased after this page was opened"
                raise Conflict(f"{text}, so nothing of it was saved")
        below = orjson.loads(events[-1])["version"] if events else 0


def customer_at(customer_id: int, version: int) -> Customer:
    """The customer as it was at a version. Raises NotFound."""
    events = services().store.customers.history(customer_id, limit=1, before_version=version + 1)
    event = orjson.loads(events[0]) if events else {}
    if event.get("version") != version:
        raise NotFound(f"customer {customer_id} has no version {version}")
    return Customer.decode(orjson.dumps(event["after_change"]))


def label(name: str) -> str:
    """The label of a field: `E-mail`, or the metadata key."""
    return FIELDS.get(name) or name.removeprefix("metadata.")


def _stored(customer_id: int) -> Stored:
    stored = services().store.customers.get(customer_id)
    if stored is None:
        raise NotFound(f"there is no customer {customer_id}")
    return stored


def _version(name: str) -> int:
    text = request.form.get(name, "")
    if not re.fullmatch(r"[1-9][0-9]{0,18}", text) or int(text) > INT64_MAX:
        raise ValidationError([FieldError(name, "bad_value", "is not a version; open the customer again")])
    return int(text)


def _path(customer_id: int) -> str:
    return f"/ui/customers/{customer_id}"
