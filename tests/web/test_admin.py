"""The pages for admins, on both databases."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from flask import Flask

from custsvc.config import Settings
from custsvc.ports.accounts import User
from custsvc.ports.ledger import Notification
from custsvc.ports.store import Store
from custsvc.serve import create_app
from custsvc.web.access import role_of
from tests.steps import settle

from .conftest import Visitor, words

ADMIN = "/ui/admin"
MakeUser = Callable[..., User]


@pytest.fixture
def root(app: Flask, make_user: MakeUser) -> Visitor:
    """An admin who is signed in, and has opened a form."""
    make_user("root", "admin")
    visitor = Visitor(app)
    assert visitor.sign_in("root").status_code == 303
    visitor.get(f"{ADMIN}/keys")
    return visitor


def secret_on(page: str) -> str | None:
    found = re.search(r"data-secret>([^<]+)<", page)
    return found[1] if found else None


def signs_in(app: Flask, name: str, password: str) -> bool:
    return Visitor(app).sign_in(name, password).status_code == 303


def test_only_admins_reach_what_is_for_admins(app: Flask, ann: Visitor) -> None:
    assert "/ui/admin" not in ann.get("/ui/customers").text
    found = set()
    for rule in app.url_map.iter_rules():
        for method in (rule.methods or set()) & {"GET", "POST"}:
            with app.app_context():
                needed = role_of(rule.endpoint, method)
            if rule.endpoint.startswith("web.") and needed == "admin" and not rule.arguments:
                found.add(rule.rule)
                answer = ann.get(rule.rule) if method == "GET" else ann.post(rule.rule)
                assert answer.status_code == 403, rule.rule

    assert {f"{ADMIN}/keys/create", f"{ADMIN}/users/change", "/ui/pipeline/repair"} <= found
    assert not [
        rule.rule
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith(ADMIN) and rule.rule not in found
    ]


def test_a_key_is_shown_once_works_and_is_revoked(
    app: Flask, root: Visitor, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "custsvc.web.admin")
    fields = {"name": "billing", "role": "read", "days": "90", "once": "k" * 24}
    made = root.post(f"{ADMIN}/keys/create", **fields)
    again = root.post(f"{ADMIN}/keys/create", **fields)

    secret = secret_on(made.text)
    assert secret is not None
    assert secret_on(again.text) is None
    (key,) = store.keys.all()
    assert (key.name, key.role) == ("billing", "read")
    assert made.headers["Cache-Control"] == "private, no-store"

    def status() -> int:
        return app.test_client().get("/api/customers/", headers={"X-Api-Key": secret}).status_code

    assert status() == 200
    root.get(f"{ADMIN}/keys")
    assert root.post(f"{ADMIN}/keys/revoke", prefix=key.prefix).status_code == 303
    assert "is revoked" in words(root.get(f"{ADMIN}/keys"))
    assert store.keys.all()[0].revoked_on is not None
    assert [record.action for record in caplog.records] == ["key_created", "key_revoked"]  # type: ignore[attr-defined]
    assert all(record.by == "root" for record in caplog.records)  # type: ignore[attr-defined]
    assert secret not in caplog.text
    assert root.post(f"{ADMIN}/keys/create", name="\x07", role="read", days="0").status_code == 400
    assert root.post(f"{ADMIN}/keys/create", name="x", role="owner", days="0").status_code == 400


def test_a_user_is_made_changed_and_kept_out(app: Flask, root: Visitor, store: Store) -> None:
    made = root.post(f"{ADMIN}/users/create", name="Bob@Example.org", role="read")
    password = secret_on(made.text) or ""
    bob = Visitor(app)
    assert bob.sign_in("bob@example.org", password).status_code == 303

    def change(action: str, **fields: str) -> str:
        root.get(f"{ADMIN}/users")
        answer = root.post(f"{ADMIN}/users/change", name="bob@example.org", action=action, **fields)
        return answer.text if answer.status_code == 200 else words(root.get(f"{ADMIN}/users"))

    assert "has the role write. 1 session ended." in change("role", role="write")
    assert bob.get("/ui/customers").status_code == 303
    fresh = secret_on(change("reset")) or ""
    assert not signs_in(app, "bob@example.org", password)
    assert signs_in(app, "bob@example.org", fresh)
    assert "go to bob@corp.example." in change("address", email="bob@corp.example")
    assert "is not an e-mail address" in change("address", email="nobody")
    assert signs_in(app, "bob@example.org", fresh)
    change("disable")
    assert not signs_in(app, "bob@example.org", fresh)
    change("enable")
    assert signs_in(app, "bob@example.org", fresh)
    assert (user := store.users.find("bob@example.org")) is not None
    assert (user.role, user.email) == ("write", "bob@corp.example")
    again = root.post(f"{ADMIN}/users/create", name="bob@example.org", role="admin")
    assert again.status_code == 409
    assert "is the name of another user" in words(again)


def test_nobody_takes_away_the_own_rights(root: Visitor, store: Store) -> None:
    for action in ("disable", "role"):
        root.get(f"{ADMIN}/users")
        root.post(f"{ADMIN}/users/change", name="root", action=action, role="read")
        assert "ask another admin" in words(root.get(f"{ADMIN}/users"))

    user = store.users.find("root")
    assert user is not None
    assert (user.role, user.disabled_on) == ("admin", None)


def test_an_address_is_suppressed_found_and_lifted(
    root: Visitor, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "custsvc.web.admin")
    fields = {"address": "Ada@Example.org", "reason": "complaint", "days": "7", "detail": "asked by phone"}
    assert root.post(f"{ADMIN}/suppressions/add", **fields).status_code == 303
    (found,) = store.recipients.suppressions()
    assert (found.reason, found.detail) == ("complaint", "asked by phone")
    assert found.expires_on is not None

    shown = root.get(f"{ADMIN}/suppressions?address=ADA@example.org")
    assert "asked by phone" in words(shown)
    assert "It gets mail" in words(root.get(f"{ADMIN}/suppressions?address=eve@example.org"))
    assert root.post(f"{ADMIN}/suppressions/lift", address=found.address).status_code == 303
    assert store.recipients.suppressions() == []
    wrong = root.post(f"{ADMIN}/suppressions/add", **{**fields, "address": "nobody"})
    assert wrong.status_code == 400
    assert len(caplog.records) == 2
    assert "example.org" not in caplog.text.lower()


RULES = """
[[rule]]
name = "hello"
ops = ["created"]
template = "welcome"
when = { "metadata.plan" = "gold" }

[[rule]]
name = "tell"
ops = ["created"]
template = "changed"
channel = "crm"

[channel.crm]
kind = "webhook"
url = "https://crm.example/hook/token-in-the-path"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""


def test_rules_are_shown_and_previewed_without_their_secrets(
    store: Store, make_user: MakeUser, tmp_path: Path
) -> None:
    file = tmp_path / "notify.toml"
    file.write_text(RULES, encoding="utf-8")
    app = create_app(Settings(backend=store.name, notify_rules=str(file)), store)  # type: ignore[arg-type]
    make_user("root", "admin")
    root = Visitor(app)
    root.sign_in("root")
    root.get("/ui/customers/new")
    root.post("/ui/customers/new", name="Grace Hopper", email="grace@example.org")
    customer = root.get("/ui/customers").text.partition("/ui/customers/")[2]
    assert customer

    page = root.get(f"{ADMIN}/rules?rule=hello&op=created")
    assert "metadata.plan is gold" in words(page)
    assert "By hello, to ada@example.com" in words(page)
    assert "token-in-the-path" not in page.text
    assert "whsec_" not in page.text
    frame = root.get(f"{ADMIN}/rules/html?rule=hello&op=created&number=0")
    assert "sandbox" in frame.headers["Content-Security-Policy"]
    assert "Ada Lovelace" in frame.text
    ids = [each.id for each in store.contents.scan(0, 10)]
    mine = root.get(f"{ADMIN}/rules?of={ids[-1]}")
    assert "Grace Hopper" in words(mine)
    assert "By hello" not in words(mine)
    assert "there is no event 99" in words(root.get(f"{ADMIN}/rules?of=99"))
    file.write_text(RULES.replace("created", "crated"), encoding="utf-8")
    assert "crated" in words(root.get(f"{ADMIN}/rules"))


# What forms of the pages name their fields, besides the action.
FIELDS = (
    *"address back by delivery detail do field from how id ids key kind meta_key meta_value mine".split(),
    *"name next of pair pending pick:name prefix query reason role seen sheet state to token typed".split(),
    *"url value version view when".split(),
)
ACTIONS = ("delete", "discard", "edit", "pause", "redeliver", "resume", "retry", "restore", "rotate", "test")


@pytest.mark.parametrize("text", ["\n", "a\r\nX-B: c", "\u202e&?#", "\x7f\x1b[1m", "-1", "x" * 3000])
def test_no_text_in_the_fields_of_any_form_is_our_fault(root: Visitor, app: Flask, text: str) -> None:
    root.get(f"{ADMIN}/webhooks")
    csrf = root.csrf
    for rule in app.url_map.iter_rules():
        if not rule.rule.startswith("/ui/") or "POST" not in (rule.methods or ()):
            continue
        path = re.sub("<id:[^>]*>", "1", rule.rule)
        path = re.sub("<[^>]*>", quote(text[:100], safe=""), path)
        for action in ACTIONS if path.endswith(("/do", "/change", "/bulk")) else (text,):
            if "/sign-" in path:  # these end the session
                continue
            root.csrf = csrf
            answer = root.post(path, **dict.fromkeys(FIELDS, text), action=action)
            assert "/ui/sign-in" not in (answer.location or ""), path
            assert answer.status_code != 500, (path, action)


def test_an_endpoint_is_made_tested_paused_and_its_log_sent_again(root: Visitor, store: Store) -> None:
    page = f"{ADMIN}/webhooks"
    root.get(page)
    fields = {"url": "https://crm.example.com/h", "payload": "event", "description": "CRM <b>"}
    assert root.post(f"{page}/create", **fields, ops="created", when="{", once="w" * 24).status_code == 400
    wrong = root.post(f"{page}/create", **{**fields, "url": "http://10.0.0.1/"}, ops="created")
    assert "CUSTSVC_WEBHOOK_ALLOW" in wrong.text
    made = root.post(f"{page}/create", **fields, ops="created", once="m" * 24)
    again = root.post(f"{page}/create", **fields, ops="created", once="m" * 24)
    (endpoint,) = store.endpoints.all()
    assert secret_on(made.text) == store.endpoints.secrets()[endpoint.id][0]
    assert secret_on(again.text) is None

    one = f"{page}/one?id={endpoint.id}"
    channel = endpoint.channel
    for n in range(60):
        row = Notification(f"d{n}", f"e{n}", n + 1, 1, "webhook", channel, "created", "{}", None)
        store.ledger.add([replace(row, channel=channel)])
    for row in store.ledger.claim(60, 60.0, channel):
        settle(store.ledger, row, "failed", reason="500 <script>", code=500, duration=0.1)

    def do(action: str, **more: str) -> str:
        root.get(one)
        root.post(f"{page}/one/do", id=endpoint.id, action=action, **more)
        return words(root.get(page if action == "delete" else one))

    assert "A test will be sent" in do("test")
    assert "is paused" in do("pause")
    assert "resume it first" in do("test")
    assert "is resumed" in do("resume")
    assert "will be sent again" in do("redeliver", delivery="d59")
    assert store.ledger.waiting(channel) == 1
    assert "has no delivery x" in do("redeliver", delivery="x")
    shown = root.get(one).text
    assert "CRM &lt;b&gt;" in shown
    assert "500 &lt;script&gt;" in shown
    older = re.search(r'href="([^"]+before=[^"]+)"', shown)
    assert older is not None
    assert root.get(older[1].replace("&amp;", "&")).text.count(">customer #") == 10
    root.get(one)
    rotated = root.post(f"{page}/one/do", id=endpoint.id, action="rotate")
    assert secret_on(rotated.text) == store.endpoints.secrets()[endpoint.id][0]
    changed = {**fields, "id": endpoint.id, "changed": "email, metadata.plan", "payload": "state"}
    assert root.post(f"{page}/one/change", **changed, ops="updated").status_code == 303
    assert [(e.ops, e.changed, e.payload) for e in store.endpoints.all()] == [
        (("updated",), ("email", "metadata.plan"), "state")
    ]
    assert root.post(f"{page}/one/do", id=endpoint.id, action="explode").status_code == 400
    assert "is deleted" in do("delete")
    assert root.get(one).status_code == 404
