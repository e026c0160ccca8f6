"""The page of suppressed addresses: lists, adds and lifts suppressions."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from flask import Blueprint, redirect, render_template, request

from ...domain.address import BadAddress, address_key, one_address
from ...http.problems import bad_parameter
from .. import toast
from ..access import needs, route, services
from .common import SHOWN, check_writable, note

_PATH: Final = "/ui/admin/suppressions"
_DAY: Final = 86400.0
# The choices for how long an address is suppressed, in days; 0 is for ever.
_DAYS: Final = {"0": "for ever", "7": "7 days", "30": "30 days", "90": "90 days"}
_REASONS: Final = ("manual", "complaint", "bounce", "unsubscribe")
_DETAIL_MAX: Final = 500


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, _PATH, index)
    route(blueprint, f"{_PATH}/add", add, "POST")
    route(blueprint, f"{_PATH}/lift", lift, "POST")


@needs("admin")
def index() -> Any:
    """The suppressed addresses, or the one that `address` names."""
    return _page(request.args.get("address", "").strip()[:254])


def _page(address: str = "", **more: Any) -> str:
    recipients = services().store.recipients
    if address:
        found = list(recipients.suppressed([address_key(address)]).values())
    else:
        found = recipients.suppressions(SHOWN + 1)
    return render_template(
        "admin/suppressions.html",
        found=found[:SHOWN],
        has_more=len(found) > SHOWN,
        shown=SHOWN,
        address=address,
        days=_DAYS,
        reasons=_REASONS,
        form=request.form,
        **more,
    )


@needs("admin")
def add() -> Any:
    check_writable()
    days, reason = request.form.get("days", ""), request.form.get("reason", "")
    if days not in _DAYS:
        raise bad_parameter("days", f"must be one of {', '.join(_DAYS)}")
    if reason not in _REASONS:
        raise bad_parameter("reason", f"must be one of {', '.join(_REASONS)}")
    try:
        address = one_address(request.form.get("address", "").strip()[:1000]).spec
    except BadAddress as exc:
        return _page(errors={"address": [str(exc)]}), 400
    detail = request.form.get("detail", "").strip()[:_DETAIL_MAX] or None
    seconds = float(days) * _DAY if days != "0" else None
    services().store.recipients.suppress(address_key(address), reason, detail=detail, seconds=seconds)
    note("suppressed", f"suppressed an address, {reason}", reason=reason, address_hash=_hash(address))
    toast.put(f"{address} gets no mail, {_DAYS[days]}.")
    return redirect(_PATH, 303)


@needs("admin")
def lift() -> Any:
    check_writable()
    address = request.form.get("address", "")[:1000]
    if services().store.recipients.allow(address_key(address)):
        note("suppression_lifted", "lifted a suppression", address_hash=_hash(address))
        toast.put(f"{address} gets mail again.")
    else:
        toast.put("That address was not suppressed any more.", kind="bad")
    return redirect(_PATH, 303)


def _hash(address: str) -> str:
    """What the log says instead of the address: equal for equal addresses."""
    return hashlib.blake2b(address_key(address).encode("utf-8", "replace"), digest_size=6).hexdigest()
