"""Saved views: lists of customers under a name, private or shared with all who may see the list."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import replace
from typing import Any, Final

from flask import Blueprint, g, redirect, render_template, request

from ..domain.customers import utc_now
from ..domain.marks import normalized
from ..errors import Conflict, NotFound
from ..http.problems import Problem
from ..ports.views import OWN_MAX, SavedView
from . import listing, toast
from .access import needs, route, services, web

NAME_MAX: Final = 60
"""The longest name of a view, in characters."""
QUERY_MAX: Final = 2000
"""The longest query of a view, in characters."""
PATH: Final = "/ui/views"


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, PATH, index, "GET", "POST")
    route(blueprint, PATH + "/<view_id>", one, "GET", "POST")
    route(blueprint, PATH + "/<view_id>/delete", delete, "POST")


@needs("read")
def index() -> Any:
    """The views of the user and those that others share; a POST saves a new one."""
    if request.method == "GET":
        mine, shared = visible()
        return render_template("customers/views.html", mine=mine, shared=shared, most=OWN_MAX)
    back = listing.href({**listing.given_by(_query()[:QUERY_MAX]), "view": request.form.get("view")})
    try:
        name, query = _name(), _saved_query()
        view = SavedView(_id(), owner(), g.principal.name, name, query, _shares(), utc_now())
        services().store.views.add(view)
    except Conflict as exc:
        return _refused(exc, back)
    toast.put(f"Saved the view “{view.name}”.", link=(f"{PATH}/{view.id}", "Its link"))
    return redirect(address(view), 303)


@needs("read")
def one(view_id: str) -> Any:
    """A GET opens a view: this is its link. A POST gives it another name, list or sharing."""
    if request.method == "GET":
        return redirect(address(_seen(view_id)), 302)
    view = _owned(view_id)
    of_list = "query" in request.form
    try:
        if of_list:
            changed = replace(view, query=_saved_query(), changed_on=utc_now())
        else:
            changed = replace(view, name=_name(), shared=_shares(), changed_on=utc_now())
        services().store.views.replace(changed)
    except Conflict as exc:
        return _refused(exc, address(view) if of_list else PATH)
    toast.put(f"Saved the view “{changed.name}”.")
    return redirect(address(changed) if of_list else PATH, 303)


@needs("read")
def delete(view_id: str) -> Any:
    """Delete a view of the user; an administrator may delete one that somebody shares."""
    view = _seen(view_id)
    if view.owner != owner() and not g.principal.may("admin"):
        raise Problem(403, "forbidden", "only its owner and administrators may delete a view")
    services().store.views.remove(view.id)
    if view.owner == owner():
        undo = {"name": view.name, "query": view.query, "id": view.id, "seal": _seal(view.id)}
        undo |= {"shared": "1"} if view.shared else {}
        toast.put(f"Deleted the view “{view.name}”.", undo=PATH, fields=undo)
    else:
        toast.put(f"Deleted the view “{view.name}” of {view.made_by}.")
    return redirect(PATH, 303)


def owner() -> str:
    """The owner of what the user saves: the session's subject, one for all if there is no sign-in."""
    session = g.browser.session
    return session.subject if session else "anybody"


def visible() -> tuple[list[SavedView], list[SavedView]]:
    """The views of the user, and those that others share."""
    found, me = services().store.views.seen_by(owner()), owner()
    return [view for view in found if view.owner == me], [view for view in found if view.owner != me]


def named(view_id: str) -> SavedView | None:
    """The view that an address names, if the user may see it."""
    view = services().store.views.find(view_id) if view_id else None
    return view if view and (view.shared or view.owner == owner()) else None


def address(view: SavedView) -> str:
    """The list of a view."""
    return listing.href({**listing.given_by(view.query), "view": view.id})


def _seen(view_id: str) -> SavedView:
    view = named(view_id)
    if view is None:
        raise NotFound("there is no such view: it was deleted, or its owner does not share it")
    return view


def _owned(view_id: str) -> SavedView:
    view = _seen(view_id)
    if view.owner != owner():
        raise Problem(403, "forbidden", "only its owner may change a view; save it under a name of your own")
    return view


def _id() -> str:
    """The id of a new view: a random one, or that of the view that this browser has just deleted."""
    wanted = request.form.get("id", "")
    is_own = hmac.compare_digest(request.form.get("seal", "").encode(), _seal(wanted).encode())
    return wanted if wanted and is_own else secrets.token_urlsafe(12)


def _seal(view_id: str) -> str:
    return web().browsers.seal(g.browser, f"deleted view {view_id}")


def _name() -> str:
    """The name in the form. Raises Conflict if it is empty, too long, or has characters that no one sees."""
    name = " ".join(normalized("NFC", request.form.get("name", "")).split())
    if not (0 < len(name) <= NAME_MAX and name.isprintable()):
        raise Conflict(f"a view needs a name of visible characters, at most {NAME_MAX}")
    return name


def _shares() -> bool:
    """Whether the form asks to share the view; that needs the right to write, since all others see it."""
    return "shared" in request.form and g.principal.may("write")


def _query() -> str:
    return request.form.get("query", "")


def _saved_query() -> str:
    """The list in the form. Raises Conflict if its address is too long."""
    if len(_query()) > QUERY_MAX:
        raise Conflict(f"the address of this list has more than {QUERY_MAX:,} characters")
    return listing.saved_query(listing.given_by(_query()))


def _refused(exc: Conflict, back: str) -> Any:
    toast.put(f"The view was not saved: {exc}.", kind="bad")
    return redirect(back, 303)
