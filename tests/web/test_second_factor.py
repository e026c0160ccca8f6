"""The second factor: set up on the page of one's account, asked for at sign-in, reset by an admin."""

from __future__ import annotations

import datetime as dt
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pyotp
import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, expect
from werkzeug.serving import make_server

from custsvc.accounts.second_factor import hash_code, new_recovery_codes, step_of
from custsvc.config import Settings
from custsvc.domain.customers import utc_now
from custsvc.ports.accounts import User
from custsvc.ports.store import Store
from custsvc.serve import create_app
from custsvc.web import account, signin
from tests.sizes import on_one

from .conftest import PASSWORD, Visitor, words
from .site import AXE, Watched

MakeUser = Callable[..., User]
STEP = dt.timedelta(seconds=30)


class Clock:
    """The time of the pages, which a test moves."""

    def __init__(self) -> None:
        self.now = utc_now()

    def __call__(self) -> dt.datetime:
        return self.now

    def code(self, secret: str) -> str:
        """The code of the next time step, which becomes the current one."""
        self.now += STEP
        return pyotp.TOTP(secret).at(self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(signin, "utc_now", clock)
    monkeypatch.setattr(account, "utc_now", clock)
    return clock


def shown(text: str, mark: str) -> list[str]:
    return re.findall(rf"{mark}>([^<]+)<", text)


def enroll(visitor: Visitor, clock: Clock) -> tuple[str, list[str]]:
    """Set the second factor up; its secret, and the recovery codes."""
    visitor.get("/ui/account")
    visitor.post("/ui/account/factor/begin", password=PASSWORD)
    (secret,) = shown(visitor.get("/ui/account").text, "data-secret")
    done = visitor.post("/ui/account/factor/confirm", code=clock.code(secret))
    assert done.status_code == 200
    return secret, shown(done.text, "data-recovery")


def second_step(visitor: Visitor, code: str) -> int:
    """Enter the name, the password and this code; the status of the answer."""
    page = visitor.sign_in("ann")
    assert page.status_code == 200
    return answer(visitor, page.text, code)


def answer(visitor: Visitor, page: str, code: str) -> int:
    found = re.search(r'name="pending" value="([^"]+)"', page)
    csrf = re.search(r'name="csrf" value="(\w+)"', page)
    assert found is not None
    assert csrf is not None
    visitor.csrf = csrf[1]
    return visitor.post("/ui/sign-in/code", pending=found[1], code=code).status_code


def test_after_the_password_a_code_is_asked_for_and_each_is_good_once(
    app: Flask, ann: Visitor, clock: Clock, store: Store
) -> None:
    other = Visitor(app)
    other.sign_in("ann")
    secret, recovery = enroll(ann, clock)
    assert other.get("/ui/customers").status_code == 303  # other sessions have ended
    assert ann.get("/ui/customers").status_code == 200

    code = clock.code(secret)
    visitor = Visitor(app)
    assert visitor.sign_in("ann").status_code == 200
    assert visitor.get("/ui/customers").status_code == 303
    assert second_step(Visitor(app), "000000") == 401
    assert second_step(visitor, f" {code[:3]} {code[3:]} ") == 303
    assert visitor.get("/ui/customers").status_code == 200
    assert second_step(Visitor(app), code) == 401
    assert len(recovery) == 10
    assert second_step(Visitor(app), recovery[0].lower().replace("-", " ")) == 303
    assert second_step(Visitor(app), recovery[0]) == 401
    factor = store.factors.find("ann")
    assert factor is not None
    assert hash_code(recovery[1]) in factor.recovery
    assert recovery[1] not in str(factor.recovery)


def test_codes_are_not_guessed_nor_entered_in_another_browser(app: Flask, ann: Visitor, clock: Clock) -> None:
    secret, _ = enroll(ann, clock)
    page = Visitor(app).sign_in("ann").text
    thief = Visitor(app)
    thief.get("/ui/sign-in")
    pending = re.findall(r'name="pending" value="([^"]+)"', page)[0]
    assert thief.post("/ui/sign-in/code", pending=pending, code=clock.code(secret)).status_code == 401
    assert thief.get("/ui/customers").status_code == 303

    assert [second_step(Visitor(app), "123456") for _ in range(11)] == [*[401] * 9, 429, 429]
    assert second_step(Visitor(app), clock.code(secret)) == 429


@on_one("postgres")
def test_setting_up_asks_for_the_password_and_turning_off_for_a_code(
    ann: Visitor, clock: Clock, store: Store
) -> None:
    ann.get("/ui/account")
    assert ann.post("/ui/account/factor/begin", password="not the password").status_code == 400
    assert store.factors.find("ann") is None
    secret, recovery = enroll(ann, clock)

    ann.get("/ui/account")
    assert ann.post("/ui/account/factor/remove", code="000000").status_code == 400
    renewed = ann.post("/ui/account/factor/renew", code=recovery[0])
    assert set(shown(renewed.text, "data-recovery")).isdisjoint(recovery)
    assert ann.post("/ui/account/factor/remove", code=recovery[1]).status_code == 400
    assert ann.post("/ui/account/factor/remove", code=clock.code(secret)).status_code == 303
    assert store.factors.find("ann") is None


@pytest.mark.parametrize(
    ("setting", "role", "is_asked"), [("admins", "write", False), ("admins", "admin", True)]
)
@on_one("postgres")
def test_a_user_who_must_have_a_second_factor_sets_it_up_first_and_keeps_it(
    store: Store, make_user: MakeUser, clock: Clock, setting: str, role: str, is_asked: bool
) -> None:
    settings = Settings(backend=store.name, second_factor=setting)  # type: ignore[arg-type]
    visitor = Visitor(create_app(settings, store))
    make_user("ann", role)
    visitor.sign_in("ann")

    led = visitor.get("/ui/customers")
    assert (led.status_code, led.location) == ((303, "/ui/account") if is_asked else (200, None))
    if is_asked:
        assert "A second factor is required here" in words(visitor.get("/ui/account"))
        secret, _ = enroll(visitor, clock)
        assert visitor.get("/ui/customers").status_code == 200
        visitor.get("/ui/account")
        assert visitor.post("/ui/account/factor/remove", code=clock.code(secret)).status_code == 403


@on_one("postgres")
def test_an_admin_resets_it_and_the_user_signs_in_by_the_password(
    app: Flask, ann: Visitor, make_user: MakeUser, clock: Clock
) -> None:
    enroll(ann, clock)
    make_user("root", "admin")
    root = Visitor(app)
    root.sign_in("root")
    assert "second factor" in words(root.get("/ui/admin/users"))

    root.post("/ui/admin/users/change", name="ann", action="factor")

    assert ann.get("/ui/customers").status_code == 303
    assert Visitor(app).sign_in("ann").status_code == 303


def test_a_clock_may_differ_by_one_step_and_no_more() -> None:
    secret, now = pyotp.random_base32(), utc_now()
    codes = {late: pyotp.TOTP(secret).at(now + late * STEP) for late in range(-3, 4)}
    step = pyotp.TOTP(secret).timecode(now)

    assert {late for late, code in codes.items() if step_of(secret, code, now) == step + late} == {-1, 0, 1}
    for typed in ("", "12345", "½½½½½½", "\ud800", "1" * 1000):
        assert step_of(secret, typed, now) is None
    assert len({hash_code(code) for code in new_recovery_codes()}) == 10


def look(page: Page) -> list[str]:
    """The serious findings of the checker of accessibility on this page."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [each["id"] for each in found if each["impact"] in ("serious", "critical")]


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """The app on a port of this machine."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@on_one("postgres")
def test_it_is_set_up_and_asked_for_in_a_browser(
    browser: Browser,
    app: Flask,
    make_user: MakeUser,
) -> None:
    make_user("ann")
    with served(app) as url, closing(Watched(browser, url, bypass_csp=True)) as watched:
        page = watched.page("/ui/sign-in")
        page.get_by_label("Name").fill("ann")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.get_by_role("link", name="ann").click()
        page.get_by_label("Your password").fill(PASSWORD)
        serious = look(page)
        page.get_by_role("button", name="Set it up").click()
        expect(page.get_by_role("img", name="QR code")).to_be_visible()
        serious += look(page)
        secret = page.locator("[data-secret]").inner_text()
        page.get_by_label("Enter the code").fill(pyotp.TOTP(secret).now())
        page.get_by_role("button", name="Turn it on").click()
        expect(page.locator("[data-recovery]")).to_have_count(10)
        code = page.locator("[data-recovery]").first.inner_text()
        serious += look(page)
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("Name").fill("ann")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page.get_by_label("Code")).to_be_focused()
        serious += look(page)
        page.get_by_label("Code").fill("000000")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("That code is wrong")
        page.get_by_label("Code").fill(code)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("link", name="ann")).to_be_visible()
        assert serious == []
        assert watched.wrong == []
