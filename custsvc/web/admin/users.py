"""The page of users: lists and creates them; changes role and password, disables and enables them.

Nobody can take away the own rights here, so that there is always an admin left who can sign in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from flask import Blueprint, g, redirect, render_template, request

from ...accounts import users
from ...accounts.keys import ROLES
from ...errors import Conflict, NotFound, ValidationError
from ...ports.accounts import User
from .. import once, toast
from ..access import needs, route, services
from ..words import plural
from .common import SHOWN, check_writable, note, role_asked

_PATH: Final = "/ui/admin/users"


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, _PATH, index)
    route(blueprint, f"{_PATH}/create", create, "POST")
    route(blueprint, f"{_PATH}/change", change, "POST")


@needs("admin")
def index() -> Any:
    return _page()


def _page(**more: Any) -> str:
    found = services().store.users.all()
    return render_template(
        "admin/users.html",
        users=found[:SHOWN],
        more=max(0, len(found) - SHOWN),
        roles=ROLES,
        me=g.principal.name,
        factors=services().store.factors.confirmed(),
        form=request.form,
        **more,
    )


@needs("admin")
def create() -> Any:
    """Create a user with a made-up password, shown this once."""
    check_writable()
    role, password = role_asked(), users.made_up_password()
    secret = []

    def made() -> dict[str, Any]:
        name, email = (request.form.get(field, "")[:1000] for field in ("name", "email"))
        user = users.create_user(services().store, name, role, password, email)
        secret.append(password)
        note("user_created", f"created the user {user.name}, role {role}", user=user.name, role=role)
        return {"name": user.name}

    try:
        answer = once.answer(made)
    except ValidationError as exc:
        return _page(errors={each.field: [each.message] for each in exc.errors}), 400
    except Conflict:
        return _page(errors={"name": ["is the name of another user already"]}), 409
    return _page(made=answer["name"], secret=secret[0] if secret else None)


@needs("admin")
def change() -> Any:
    """Do what the form's `action` says with the user of its `name`."""
    check_writable()
    action = _ACTIONS.get(request.form.get("action", ""))
    try:
        user = users.find_user(services().store, request.form.get("name", ""))
    except NotFound:
        toast.put("That user was deleted meanwhile.", kind="bad")
        return redirect(_PATH, 303)
    if action is None:
        toast.put("Choose what to do.", kind="bad")
        return redirect(_PATH, 303)
    if user.name == g.principal.name and action not in (_reset, _address):
        toast.put("Nobody can do that to themselves: ask another admin.", kind="bad")
        return redirect(_PATH, 303)
    return action(user)


def _role(user: User) -> Any:
    role = role_asked()
    ended = users.set_role(services().store, user, role)
    note("user_role", f"gave {user.name} the role {role}", user=user.name, role=role)
    return _told(f"{user.name} has the role {role}.", ended)


def _disable(user: User) -> Any:
    ended = users.disable(services().store, user)
    note("user_disabled", f"disabled the user {user.name}", user=user.name)
    return _told(f"{user.name} can sign in no more.", ended)


def _enable(user: User) -> Any:
    ended = users.enable(services().store, user)
    note("user_enabled", f"enabled the user {user.name}", user=user.name)
    return _told(f"{user.name} can sign in again.", ended)


def _reset(user: User) -> Any:
    """Give the user a made-up password, shown this once."""
    password = users.made_up_password()
    secret = []

    def made() -> dict[str, Any]:
        users.set_password(services().store, user, password)
        secret.append(password)
        note("user_password", f"reset the password of {user.name}", user=user.name)
        return {"name": user.name}

    answer = once.answer(made)
    return _page(made=answer["name"], reset=True, secret=secret[0] if secret else None)


def _address(user: User) -> Any:
    """Give the user this address, or none."""
    try:
        address = users.set_address(services().store, user, request.form.get("email", "")[:1000])
    except ValidationError as exc:
        toast.put(f"The address {exc.errors[0].message}.", kind="bad")
        return redirect(_PATH, 303)
    note("user_address", f"changed the address of {user.name}", user=user.name)
    told = f"Links to reset the password of {user.name} go to {address}."
    return _told(told if address else f"{user.name} has no address of its own.", 0)


def _factor(user: User) -> Any:
    ended = users.reset_factor(services().store, user)
    note("factor_reset", f"reset the second factor of {user.name}", user=user.name)
    return _told(f"{user.name} has no second factor.", ended)


def _told(text: str, ended: int) -> Any:
    toast.put(f"{text} {plural(ended, 'session')} ended." if ended else text)
    return redirect(_PATH, 303)


_ACTIONS: Final[dict[str, Callable[[User], Any]]] = {
    "role": _role,
    "disable": _disable,
    "enable": _enable,
    "reset": _reset,
    "address": _address,
    "factor": _factor,
}
