"""The page of one customer: its fields, its changes, and how far its last change has travelled."""

from __future__ import annotations

import re
from typing import Any

import orjson
from flask import Blueprint, redirect, render_template, request

from ..errors import NotFound, VersionConflict
from ..service.merging import survivor_of
from . import once, toast
from .access import route, services

_EVENTS = 20


def add_routes(blueprint: Blueprint) -> None:
    base = "/ui/customers/<id:customer_id>"
    route(blueprint, base, show)
    route(blueprint, base + "/delete", delete, "POST")
    route(blueprint, base + "/restore", restore, "POST")
    route(blueprint, base + "/revert", revert, "POST")


def show(customer_id: int) -> Any:
    store = services().store
    stored = store.customers.get(customer_id)
    if stored is None:
        raise NotFound(f"there is no customer {customer_id}")
    before = number_of(request.args.get("before", ""))
    events = store.customers.history(customer_id, limit=_EVENTS + 1, before_version=before)
    mails = store.ledger.recent(customer_id=customer_id, limit=20)
    attempts = store.ledger.attempts([mail.id for mail in mails])
    shown = [orjson.loads(event) for event in events[:_EVENTS]]
    return render_template(
        "customers/show.html",
        customer=stored.customer(),
        events=shown,
        survivor=survivor_of(store.customers, customer_id) if stored.deleted else None,
        undoable=_undoable(shown) if before is None and not stored.deleted else None,
        has_older=len(events) > _EVENTS,
        mails=mails,
        attempts=attempts,
    )


def _undoable(events: list[dict[str, Any]]) -> int | None:
    """The version that the newest merge made, if it is among these and was not undone."""
    undone = {event["merge"].get("undid") for event in events if event["op"] == "unmerged"}
    merges = (event["version"] for event in events if event["op"] == "merged")
    return next((version for version in merges if version not in undone), None)


def delete(customer_id: int) -> Any:
    expected = _expected()
    try:
        stored = once.change(lambda who: services().customers.delete(customer_id, who, expected=expected))
    except VersionConflict:
        toast.put("It was changed meanwhile, so it was not deleted. Look at it first.", kind="bad")
        return redirect(f"/ui/customers/{customer_id}", 303)
    name = stored.customer().fields.name
    toast.put(f"{name} was deleted.", undo=f"/ui/customers/{customer_id}/restore")
    return redirect("/ui/customers", 303)


def restore(customer_id: int) -> Any:
    stored = once.change(lambda who: services().customers.restore(customer_id, who))
    toast.put(f"{stored.customer().fields.name} is back.", undo=f"/ui/customers/{customer_id}/delete")
    return redirect(f"/ui/customers/{customer_id}", 303)


def revert(customer_id: int) -> Any:
    """Give a customer the fields of an earlier version, as a new version."""
    to = number_of(request.form.get("to", "")) or 0
    path = f"/ui/customers/{customer_id}"
    current = services().customers.get(customer_id)
    expected = _expected() or current.version
    try:
        stored = once.change(lambda who: services().customers.revert(customer_id, to, who, expected=expected))
    except VersionConflict:
        toast.put("It was changed meanwhile, so nothing was reverted. Look at it first.", kind="bad")
        return redirect(path, 303)
    if stored.version == expected:
        toast.put(f"It already is as it was at version {to}.")
    else:
        undo = {"to": str(expected), "version": str(stored.version)}
        toast.put(f"Back to version {to}.", undo=f"{path}/revert", fields=undo)
    return redirect(path, 303)


def _expected() -> int | None:
    return number_of(request.form.get("version", ""))


def number_of(text: str) -> int | None:
    """A version number; None for any other text."""
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,17}", text) else None
