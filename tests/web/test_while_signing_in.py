"""Users who are changed while somebody signs in, or while somebody else changes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask

from custsvc.accounts import users
from custsvc.errors import NotFound
from custsvc.ports.accounts import User
from custsvc.ports.shelf import Shelved
from custsvc.ports.store import Store
from custsvc.transfer.shape import Shape
from custsvc.web import signin
from custsvc.web.uploads import Uploads

from .conftest import Visitor

MakeUser = Callable[..., User]
Change = Callable[[Store, User], object]
CHANGES: dict[str, Change] = {
    "a new password": lambda store, user: users.set_password(store, user, "another long password"),
    "disabled": users.disable,
    "a lower role": lambda store, user: users.set_role(store, user, "read"),
}


@pytest.mark.parametrize("change", ["a new password", "disabled"])
def test_a_sign_in_during_a_change_is_out_as_the_sessions_before_it(
    app: Flask, store: Store, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """The password was checked before the change, and the session is stored after it."""
    ann = make_user("ann")
    begin = signin._begin

    def changed_first(*args: object) -> object:
        CHANGES[change](store, ann)
        return begin(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(signin, "_begin", changed_first)
    visitor = Visitor(app)

    assert visitor.sign_in("ann").status_code == 401
    assert visitor.get("/ui/customers").status_code == 303


@pytest.mark.parametrize("late", list(CHANGES))
@pytest.mark.parametrize("early", list(CHANGES))
def test_a_change_keeps_what_was_changed_since_the_user_was_read(
    store: Store, make_user: MakeUser, early: str, late: str
) -> None:
    read = make_user("ann", "admin")

    for change in (early, late):
        CHANGES[change](store, read)

    now = store.users.find("ann")
    assert now is not None
    done = {early, late}
    assert (now.password != read.password) == ("a new password" in done)
    assert (now.disabled_on is not None) == ("disabled" in done)
    assert now.role == ("read" if "a lower role" in done else "admin")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("unix:", "unix:", True),
    ],
)
def test_a_host_cannot_change_its_address_within_its_network_to_try_again(
    app: Flask, one: str, other: str, same: bool
) -> None:
    found = []
    for address in (one, other):
        with app.test_request_context(environ_base={"REMOTE_ADDR": address}):
            found.append(signin.sender())

    assert (found[0] == found[1]) == same


def test_an_upload_with_a_missing_part_is_not_taken_for_a_shorter_file(store: Store) -> None:
    uploads = Uploads(store.shelf)
    kept = uploads.keep("a.csv", Shape("csv"), b"name\n" + b"Ann\n" * 400_000)
    assert kept.parts > 2
    assert len(uploads.content(kept)) == kept.size

    store.shelf.drop(f"{Shelved.UPLOAD_PART}{kept.id}.1")
    with pytest.raises(NotFound, match="the file is gone"):
        uploads.content(kept)
