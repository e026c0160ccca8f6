"""The port `Ledger` and text that came from outside."""

from __future__ import annotations

from custsvc.ports.ledger import Notification
from custsvc.ports.store import Store
from tests.steps import settle


def row(name: str, text: str, customer: int = 1) -> Notification:
    return Notification(
        name, f"event-{name}", customer, 1, "changed", "a@x.org", text, "a text", text, reason=text
    )


def test_characters_that_a_database_cannot_hold_are_stored_as_a_substitute(store: Store) -> None:
    """NUL and lone surrogates come in by answers, errors and arguments; no row may fail for them."""
    ledger = store.ledger
    odd = "a\x00b\ud800\udcffé"
    kept = "a\ufffdb\ufffd\ufffdé"
    ledger.add([row("m", odd), row("n", "fine", 2)])
    (first, second) = sorted(ledger.claim(2, 60.0), key=lambda n: n.id)

    settle(ledger, first, "failed", reason=odd, code=550)
    settle(ledger, second, "deferred", reason=odd)
    ledger.discard(["n"], odd)
    store.recipients.suppress(odd, "bounce", detail=odd)

    m, n = ledger.find(["m", "n"])
    assert (m.subject, m.html, m.reason, n.reason) == (kept, kept, kept, kept)
    assert ledger.attempts(["m"])["m"][0].text == kept
    (entry,) = store.recipients.suppressions()
    assert (entry.address, entry.detail) == (kept, kept)
