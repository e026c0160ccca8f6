"""Sign-in: who gets in, for how long, and the origin of requests."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from html import escape

import pytest
from flask import Flask

from custsvc.config import Settings
from custsvc.domain.customers import utc_now
from custsvc.ports.accounts import Role, User
from custsvc.ports.store import Store
from custsvc.serve import create_app
from custsvc.web import static

from .conftest import PASSWORD, Visitor, words

MakeUser = Callable[..., User]


def test_a_visitor_is_asked_to_sign_in_and_returns_to_the_page(visitor: Visitor, make_user: MakeUser) -> None:
    make_user("ann")

    asked = visitor.get("/ui/customers?q=lee")
    visitor.get(asked.location)
    answer = visitor.post("/ui/sign-in", name=" Ann ", password=PASSWORD, next="/ui/customers?q=lee")

    assert asked.status_code == 303
    assert asked.location == "/ui/sign-in?next=/ui/customers%3Fq%3Dlee"
    assert (answer.status_code, answer.location) == (303, "/ui/customers?q=lee")
    assert visitor.get("/ui/customers").status_code == 200


@pytest.mark.parametrize(
    ("sent", "referer", "back"),
    [
        ("/ui/customers/7/edit", "/ui/customers/7/edit", "/ui/customers/7/edit"),
        ("/ui/customers/bulk", "/ui/customers?q=lee&sort=name", "/ui/customers?q=lee&sort=name"),
        ("/ui/customers/7/resolve", "/ui/customers/7/resolve", "/ui/customers"),
        ("/ui/mails/change", "https://evil.example/ui/mails", "/ui/customers"),
        ("/ui/mails/change", "http://[/ui/mails", "/ui/customers"),
        ("/ui/mails/change", "/ui/nothing", "/ui/customers"),
        ("/ui/mails/change", "/ui/sign-in", "/ui/customers"),
        ("/ui/mails/change", "/", "/ui/customers"),
        ("/ui/import", None, "/ui/customers"),
    ],
)
def test_who_was_signed_out_is_told_that_the_form_was_not_saved(
    ann: Visitor, store: Store, sent: str, referer: str | None, back: str
) -> None:
    for session in store.sessions.all():
        store.sessions.remove(session.id)
    own = referer is not None and referer.startswith("/")
    headers = {} if referer is None else {"Referer": f"{ann.base_url}{referer}" if own else referer}

    asked = ann.post(sent, headers=headers, name="Typed")
    page = ann.get(asked.location)

    assert asked.status_code == 303
    assert "what you sent was not saved" in words(page)
    assert "what you sent was not saved" not in words(ann.get("/ui/sign-in"))
    assert f'name="next" value="{escape(back)}"' in page.text


@pytest.mark.parametrize(
    "target",
    ["https://evil.example", "//evil.example", "/\\evil.example", "/ui/\\x", "javascript:alert(1)", ""],
)
def test_nobody_is_sent_to_another_site(ann: Visitor, target: str) -> None:
    answer = ann.get("/ui/sign-in", query_string={"next": target})

    assert answer.location == "/ui/customers"


def test_a_key_signs_in_with_its_role_until_it_is_revoked(
    app: Flask, store: Store, make_key: Callable[[Role], str]
) -> None:
    visitor = Visitor(app)
    key = make_key("read")
    visitor.get("/ui/sign-in")
    assert visitor.post("/ui/sign-in", key="csk_000000000000_" + "x" * 43).status_code == 401
    assert visitor.post("/ui/sign-in", key=key).status_code == 303
    assert visitor.get("/ui/customers").status_code == 200

    assert visitor.get("/ui/customers/new").status_code == 403
    store.keys.revoke(key.split("_")[1], utc_now())
    app.extensions["custsvc.web"].services.keys._cached.clear()

    assert visitor.get("/ui/customers").status_code == 303


def test_a_cookie_opens_no_api_and_a_key_no_page(
    app: Flask, ann: Visitor, make_key: Callable[[Role], str]
) -> None:
    """S15."""
    key = make_key("admin")

    assert ann.get("/api/customers/").status_code == 401
    bearer = {"Authorization": f"Bearer {key}", "X-Api-Key": key}
    assert Visitor(app).get("/ui/customers", headers=bearer).status_code == 303
    assert ann.client.get("/api/customers/", headers={"Cookie": f"custsvc={key}"}).status_code == 401


def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(app: Flask, make_user: MakeUser) -> None:
    """S3."""
    make_user("ann")

    wrong, unknown = (Visitor(app).sign_in(name, "not the password") for name in ("ann", "bob"))

    assert wrong.status_code == unknown.status_code == 401
    assert words(wrong) == words(unknown)


def test_the_tenth_try_is_refused_even_with_the_right_password(app: Flask, make_user: MakeUser) -> None:
    """S3."""
    make_user("ann")
    make_user("bob")
    visitor = Visitor(app)

    tries = [visitor.sign_in("ANN", "not the password").status_code for _ in range(9)]
    last = visitor.sign_in("ann")

    assert tries == [401] * 9
    assert last.status_code == 429
    assert int(last.headers["Retry-After"]) > 0
    assert visitor.sign_in("bob").status_code == 303


def test_an_address_that_tries_many_names_is_refused(app: Flask, store: Store, make_user: MakeUser) -> None:
    """S3."""
    make_user("ann")
    for _ in range(99):
        store.sessions.count_try("address:127.0.0.1", utc_now(), 900)

    assert Visitor(app).sign_in("ann").status_code == 429


def test_a_form_of_very_many_parts_is_refused(app: Flask, make_user: MakeUser) -> None:
    """S8."""
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    multipart = {"content_type": "multipart/form-data; boundary=x"}
    client = app.test_client()

    for count in (101, 15_000, 100_000):
        answer = client.post("/ui/sign-in", data=part * count + b"--x--\r\n", **multipart)
        assert answer.status_code == 413, count
    plain = {"content_type": "application/x-www-form-urlencoded"}
    for count, status in ((1000, 403), (100_000, 413), (300_000, 413)):
        assert client.post("/ui/sign-in", data=b"a=1&" * count, **plain).status_code == status, count
        # It is for those who signed in, and of others its form is not even read.
        assert client.post("/ui/import", data=b"a=1&" * count, **plain).status_code == 303, count
    make_user("ann")
    ann = Visitor(app)
    ann.sign_in("ann")
    for count, status in ((1000, 403), (100_000, 413), (300_000, 413)):
        assert ann.client.post("/ui/import", data=b"a=1&" * count, **plain).status_code == status, count


def test_names_of_files_that_are_none_are_not_kept(app: Flask) -> None:
    """S8: anybody may ask for as many as they like."""
    client = app.test_client()
    assert client.get("/ui/static/icon.svg").status_code == 200
    before = static._content.cache_info().currsize

    assert {client.get(f"/ui/static/{n}.css").status_code for n in range(50)} == {404}

    assert static._content.cache_info().currsize == before


def test_signing_in_gives_a_new_session_so_nobody_can_plant_theirs(app: Flask, make_user: MakeUser) -> None:
    """S14."""
    make_user("ann")
    visitor = Visitor(app)
    visitor.get("/ui/sign-in")
    before = visitor.cookie()

    visitor.sign_in("ann")

    assert before
    assert visitor.cookie() != before
    planted = Visitor(app)
    planted.client.set_cookie("custsvc", before, domain="localhost")
    assert planted.get("/ui/customers").status_code == 303


def test_signing_out_ends_the_session_wherever_its_cookie_is(app: Flask, ann: Visitor) -> None:
    stolen = Visitor(app)
    stolen.client.set_cookie("custsvc", ann.cookie(), domain="localhost")
    assert stolen.get("/ui/customers").status_code == 200

    assert ann.post("/ui/sign-out").location == "/ui/sign-in"

    assert ann.get("/ui/customers").status_code == 303
    assert stolen.get("/ui/customers").status_code == 303


@pytest.mark.parametrize(("created", "seen"), [(-43201, 0), (-7300, -7201)], ids=["too old", "idle"])
def test_a_session_ends_by_age_and_by_rest(ann: Visitor, store: Store, created: int, seen: int) -> None:
    """S14."""
    import hashlib

    session_id = hashlib.sha256(ann.cookie().encode()).hexdigest()
    session = store.sessions.find(session_id)
    assert session is not None
    store.sessions.remove(session_id)
    at = [utc_now() + dt.timedelta(seconds=each) for each in (created, seen)]
    store.sessions.add(replace(session, created_on=at[0], seen_on=at[1]))

    assert ann.get("/ui/customers").status_code == 303
    assert store.sessions.find(session_id) is None


def test_a_disabled_user_is_signed_out_at_once(app: Flask, ann: Visitor, store: Store) -> None:
    user = store.users.find("ann")
    assert user is not None
    store.users.replace(replace(user, disabled_on=utc_now()))
    app.extensions["custsvc.web"].browsers._users.clear()

    assert ann.get("/ui/customers").status_code == 303
    assert Visitor(app).sign_in("ann").status_code == 401


def test_the_cookie_is_pinned_to_the_host_under_tls(settings: Settings, store: Store) -> None:
    """S14."""
    app = create_app(settings.replace(public_url="https://crm.example.org"), store)
    secure = Visitor(app, "https://crm.example.org").get("/ui/sign-in")
    plain = Visitor(create_app(settings, store)).get("/ui/sign-in")

    assert "Strict-Transport-Security" in secure.headers
    name, *flags = secure.headers["Set-Cookie"].split("; ")
    assert name.startswith("__Host-custsvc=")
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} == set(flags)
    name, *flags = plain.headers["Set-Cookie"].split("; ")
    assert name.startswith("custsvc=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} == set(flags)


def test_a_form_is_refused_without_its_token_or_from_another_site(ann: Visitor, store: Store) -> None:
    """S15."""
    fields = {"name": "Eve"}
    refused = [
        ann.post("/ui/customers/new", csrf="", **fields),
        ann.post("/ui/customers/new", csrf="0" * 64, **fields),
        ann.post("/ui/customers/new", headers={"Origin": "https://evil.example"}, **fields),
        ann.post("/ui/customers/new", headers={"Origin": "null"}, **fields),
        ann.post("/ui/customers/new", headers={"Sec-Fetch-Site": "cross-site"}, **fields),
        ann.post("/ui/customers/new", headers={"Sec-Fetch-Site": "same-site"}, **fields),
    ]

    assert [answer.status_code for answer in refused] == [403] * 6
    assert store.customers.get(1) is None
    ours = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert ann.post("/ui/customers/new", headers=ours, **fields).status_code == 303


def test_the_token_of_one_browser_is_refused_in_another(
    app: Flask, ann: Visitor, make_user: MakeUser
) -> None:
    make_user("eve")
    eve = Visitor(app)
    eve.sign_in("eve")
    eve.get("/ui/customers/new")

    assert ann.post("/ui/customers/new", csrf=eve.csrf, name="Eve").status_code == 403


def test_sign_in_off_still_refuses_forms_of_other_sites(settings: Settings, store: Store) -> None:
    visitor = Visitor(create_app(settings.replace(auth="off"), store))
    visitor.get("/ui/customers/new")
    fields = {"name": "Ada", "headers": {"Origin": "https://evil.example"}}

    assert visitor.post("/ui/customers/new", **fields).status_code == 403
    assert visitor.post("/ui/customers/new", name="Ada").status_code == 303


@pytest.mark.parametrize("path", ["/ui/sign-in", "/ui/customers", "/ui/customers/999", "/ui/nothing", "/"])
def test_every_page_comes_with_the_headers_that_protect_it(ann: Visitor, path: str) -> None:
    """S16."""
    headers = ann.get(path).headers

    csp = headers["Content-Security-Policy"]
    assert "unsafe" not in csp
    assert "default-src 'none'" in csp
    assert "frame-ancestors 'none'" in csp
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "private, no-store"
    assert headers["Referrer-Policy"] == "same-origin"


def test_a_reader_sees_pages_but_changes_nothing(app: Flask, store: Store, make_user: MakeUser) -> None:
    make_user("rob", "read")
    rob = Visitor(app)
    rob.sign_in("rob")

    page = rob.get("/ui/customers")

    assert page.status_code == 200
    assert "New customer" not in page.text
    assert rob.get("/ui/customers/new").status_code == 403
    assert rob.post("/ui/customers/new", name="Eve").status_code == 403
    assert rob.post("/ui/customers/bulk", action="delete", ids="1").status_code == 403
