"""Passwords reset by mail: one answer for every name, one use of every link."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser, expect

from custsvc.accounts import users
from custsvc.config import Settings
from custsvc.domain.customers import utc_now
from custsvc.local import LocalServers
from custsvc.local.mail import Mailbox
from custsvc.notify.channels.channel import Outcome
from custsvc.ports.accounts import User
from custsvc.ports.store import Store
from custsvc.serve import create_app
from custsvc.web import reset_mail
from tests.sizes import on_one
from tests.waiting import until

from .conftest import PASSWORD, Visitor, words
from .site import Site, Watched
from .test_second_factor import look

MakeUser = Callable[..., User]
ANN, NEW = "ann@example.org", "a new long password"


@pytest.fixture
def settings(store: Store) -> Settings:
    return Settings(
        backend=store.name,  # type: ignore[arg-type]
        smtp_url="smtp+plain://127.0.0.1:1",
        public_url="http://localhost",
    )


@pytest.fixture
def mailed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The address and the link of each mail, which is not sent."""
    found: list[tuple[str, str]] = []

    def sent(_: Settings, user: User, link: str) -> Outcome:
        found.append((user.address or "", link))
        return Outcome("sent", 250, "OK")

    monkeypatch.setattr(reset_mail, "_sent", sent)
    return found


def ask(app: Flask, name: str) -> str:
    """Ask for a link; what the page says."""
    visitor = Visitor(app)
    visitor.get("/ui/reset")
    answer = visitor.post("/ui/reset", name=name)
    assert answer.status_code == 200
    return words(answer)


def link_for(app: Flask, store: Store, settings: Settings, mailed: list[tuple[str, str]]) -> str:
    ask(app, ANN)
    while reset_mail.mail_next(store, settings):
        pass
    return mailed[-1][1].removeprefix("http://localhost")


def choose(visitor: Visitor, link: str, password: str = NEW, again: str = NEW) -> int:
    visitor.get(link)
    return visitor.post(link, password=password, again=again).status_code


def test_every_name_gets_the_same_answer_and_only_a_user_gets_a_mail(
    app: Flask, store: Store, settings: Settings, make_user: MakeUser, mailed: list[tuple[str, str]]
) -> None:
    make_user(ANN)
    make_user("plain")
    store.users.add(User("gone@example.org", "x", "read", utc_now(), disabled_on=utc_now()))
    store.users.add(User("left", "x", "read", utc_now(), utc_now(), "left@example.org"))

    nobody = ("nobody@example.org", "gone@example.org", "left@example.org", "left", "plain", "", "x" * 5000)
    names = (" Ann@Example.org ", *nobody, "a b", "\x00")
    said = {ask(app, name) for name in names if "\x00" not in name}
    while reset_mail.mail_next(store, settings):
        pass

    assert len(said) == 1
    assert [address for address, _ in mailed] == [ANN]
    assert not reset_mail.mail_next(store, settings)


def test_a_user_with_an_address_gets_the_mail_there_by_name_and_by_address(
    app: Flask, store: Store, settings: Settings, make_user: MakeUser, mailed: list[tuple[str, str]]
) -> None:
    for name in ("bob", "bobs-other", ANN):
        users.set_address(store, make_user(name), " Bob@Bücher.example ")
    users.set_address(store, make_user("plain"), "")
    where = "Bob@xn--bcher-kva.example"

    def asked(name: str) -> list[str]:
        mailed.clear()
        ask(app, name)
        while reset_mail.mail_next(store, settings):
            pass
        return [address for address, _ in mailed]

    assert asked("bob") == asked(ANN) == [where]
    assert asked("plain") == []
    assert asked(where.lower()) == [where] * 3
    link = mailed[0][1].removeprefix("http://localhost")
    page = words(Visitor(app).get(link))
    (user,) = [each for each in store.users.all() if f"For {each.name}. " in page]
    users.set_address(store, user, "new@example.org")
    assert Visitor(app).get(link).status_code == 404


def test_a_link_is_good_once_and_ends_all_sessions(
    app: Flask, store: Store, settings: Settings, make_user: MakeUser, mailed: list[tuple[str, str]]
) -> None:
    make_user(ANN)
    ann, thief = Visitor(app), Visitor(app)
    ann.sign_in(ANN)
    older = link_for(app, store, settings, mailed)
    link = link_for(app, store, settings, mailed)
    assert ann.get("/ui/customers").status_code == 200

    assert thief.get(older).status_code == 404
    assert Visitor(app).get(link).status_code == 200
    assert choose(thief, link, "short", "short") == 400
    assert choose(thief, link, NEW, "another long one") == 400
    assert choose(ann, link) == 303
    assert ann.get("/ui/customers").status_code == 303
    assert choose(thief, link) == 404
    assert Visitor(app).sign_in(ANN).status_code == 401
    assert Visitor(app).sign_in(ANN, NEW).status_code == 303


@on_one("postgres")
def test_a_second_factor_stays_and_a_new_password_voids_the_link(
    app: Flask, store: Store, settings: Settings, make_user: MakeUser, mailed: list[tuple[str, str]]
) -> None:
    from custsvc.accounts.users import set_password

    make_user(ANN)
    store.factors.begin(ANN, "A" * 32, utc_now())
    store.factors.confirm(ANN, "A" * 32, 1, [], utc_now())
    assert choose(Visitor(app), link_for(app, store, settings, mailed)) == 303
    assert "Second factor" in words(Visitor(app).sign_in(ANN, NEW))

    link = link_for(app, store, settings, mailed)
    user = store.users.find(ANN)
    assert user is not None
    set_password(store, user, PASSWORD)
    assert Visitor(app).get(link).status_code == 404


@on_one("postgres")
def test_mails_for_a_name_and_requests_of_an_address_are_limited(
    app: Flask, store: Store, settings: Settings, make_user: MakeUser, mailed: list[tuple[str, str]]
) -> None:
    make_user(ANN)
    for _ in range(6):
        link_for(app, store, settings, mailed)
    assert len(mailed) == 3

    visitor = Visitor(app)
    visitor.get("/ui/reset")
    statuses = [visitor.post("/ui/reset", name=f"user-{n}@example.org").status_code for n in range(30)]
    assert set(statuses[:24]) == {200}
    assert statuses[24:] == [429] * 6


@on_one("postgres")
def test_a_mail_that_could_not_be_sent_is_tried_again_with_a_new_token(
    app: Flask,
    store: Store,
    settings: Settings,
    make_user: MakeUser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_user(ANN)
    ask(app, ANN)
    links: list[str] = []
    outcomes = iter([Outcome("down", None, "no connection"), Outcome("sent", 250, "OK")])

    def sent(_: Settings, address: str, link: str) -> Outcome:
        links.append(link)
        return next(outcomes)

    monkeypatch.setattr(reset_mail, "_sent", sent)
    monkeypatch.setattr(reset_mail, "_LEASE", -1.0)
    while reset_mail.mail_next(store, settings):
        pass

    assert len(set(links)) == 2
    assert [Visitor(app).get(each.removeprefix("http://localhost")).status_code for each in links] == [
        404,
        200,
    ]


@pytest.mark.parametrize("missing", ["smtp_url", "public_url", "auth"])
@on_one("postgres")
def test_there_is_no_reset_where_no_mail_can_bring_a_link(
    store: Store, settings: Settings, missing: str
) -> None:
    without: dict[str, Any] = {missing: "off" if missing == "auth" else ""}
    app = create_app(settings.replace(**without), store)

    assert Visitor(app).get("/ui/reset").status_code == 404
    assert Visitor(app).get("/ui/reset/" + "x" * 43).status_code == 404
    assert "/ui/reset" not in Visitor(app).get("/ui/sign-in").text


@on_one("postgres")
def test_somebody_resets_a_password_in_a_browser_by_a_mail(
    browser: Browser,
    backend: str,
    database_url: str,
    store: Store,
    make_user: MakeUser,
    tmp_path: Path,
) -> None:
    make_user(ANN)
    with closing(Site(tmp_path, backend, {f"CUSTSVC_{backend.upper()}_URL": database_url})) as site:
        site.env |= {"CUSTSVC_AUTH": "on", "CUSTSVC_PUBLIC_URL": site.url}
        site.start("serve")
        box = Mailbox(LocalServers(tmp_path / "data").home / "mail" / "mails")
        with closing(Watched(browser, site.url, bypass_csp=True)) as watched:
            page = watched.page("/ui/sign-in")
            page.get_by_role("link", name="Forgot your password?").click()
            serious = look(page)
            page.get_by_label("E-mail address").fill(ANN)
            page.get_by_role("button", name="Mail me a link").click()
            expect(
                page.get_by_role("status").filter(has_text="a mail with a link is on its way")
            ).to_be_visible()
            (mail,) = until("the mail came", box.messages)
            body = mail.message().get_body(("plain",))
            assert body is not None
            found = re.search(rf"{site.url}/ui/reset/\S+", body.get_content())
            assert found is not None
            page.goto(found[0])
            serious += look(page)
            page.get_by_label("New password").fill(NEW)
            page.get_by_label("The same again").fill(NEW)
            page.get_by_role("button", name="Change it").click()
            expect(page.locator("[data-toast]")).to_contain_text("Your password was changed.")
            page.get_by_label("Name").fill(ANN)
            page.get_by_label("Password").fill(NEW)
            page.get_by_role("button", name="Sign in", exact=True).click()
            expect(page.get_by_role("link", name=ANN)).to_be_visible()
            assert serious == []
            assert watched.wrong == []
