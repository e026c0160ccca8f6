"""What the pages for admins share: refusing changes of a copy, and the line in the log for each change."""

from __future__ import annotations

import logging
from typing import Any, Final

from flask import g, request

from ...accounts.keys import ROLES
from ...http.problems import Problem, bad_parameter
from ...ports.accounts import Role
from ..access import services

logger = logging.getLogger("custsvc.web.admin")

# Most entries that a page shows.
SHOWN: Final = 200


def check_writable() -> None:
    """Refuse a change where this `serve` shows a copy. Raises Problem 403."""
    if services().settings.read_only:
        raise Problem(403, "forbidden", "this serves a copy: change it where the system of record is served")


def role_asked() -> Role:
    """The role that the form chose. Raises Problem 400."""
    asked = request.form.get("role", "")
    for role in ROLES:
        if role == asked:
            return role
    raise bad_parameter("role", f"must be one of {', '.join(ROLES)}")


def note(action: str, what: str, **about: Any) -> None:
    """Log who changed what; `action` is the stable word for it."""
    by = g.principal.name
    logger.info("%s %s", by, what, extra={"action": action, "by": by, **about})
