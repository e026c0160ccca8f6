"""The pages for admins: API keys, users, suppressed addresses, the rules of mails, and webhooks."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, redirect

from ..access import needs, route
from . import keys, rules, suppressions, users, webhooks


def add_routes(blueprint: Blueprint) -> None:
    route(blueprint, "/ui/admin", index)
    for part in (keys, users, suppressions, rules, webhooks):
        part.add_routes(blueprint)


@needs("admin")
def index() -> Any:
    return redirect("/ui/admin/keys", 302)
