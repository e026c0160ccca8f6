"""The mail to an endpoint's owner when it was paused because it failed."""

from __future__ import annotations

from urllib.parse import urlsplit

from ...domain.customers import format_time
from ...domain.text import one_line
from ...ports.endpoints import Endpoint
from ...ports.ledger import Notification
from ..intake.ids import notification_id

RULE = "webhook-paused"


def paused_mail(endpoint: Endpoint, public_url: str) -> Notification | None:
    """The mail about this pause, with an id that is the same each time; None if there is no owner to tell."""
    if not endpoint.email or endpoint.paused_on is None:
        return None
    event_id = f"{RULE}/{endpoint.id}/{endpoint.paused_on.isoformat()}"
    # Only the host: the rest of the address may be a secret.
    host = urlsplit(endpoint.url).hostname or ""
    return Notification(
        id=notification_id(event_id, RULE, endpoint.email),
        event_id=event_id,
        customer_id=None,
        version=0,
        rule=RULE,
        recipient=endpoint.email,
        subject=one_line(f"Webhook paused: {endpoint.description or host}", 200),
        text=_text(endpoint, host, public_url),
        html=None,
    )


def _text(endpoint: Endpoint, host: str, public_url: str) -> str:
    since = endpoint.failing_since or endpoint.paused_on
    lines = [
        f"The webhook endpoint {endpoint.id} at {host} is paused.",
        "",
        f"It has failed since {format_time(since) if since else 'a while'}.",
        f"The last answer: {endpoint.paused_why or 'none'}",
        "",
        "Nothing is lost: what is to be sent there waits. Repair the receiver, then resume it:",
        "",
        f"    custsvc webhooks resume {endpoint.id}",
    ]
    if public_url:
        lines.append(f"    or on {public_url.rstrip('/')}/ui/admin/webhooks/one?id={endpoint.id}")
    return "\n".join([*lines, ""])
