"""The page behind the link in mails: opening it does nothing, the button and one click unsubscribe."""

from __future__ import annotations

from flask import Flask

from custsvc.notify.channels.unsubscribe import UnsubscribeLinks
from custsvc.ports.recipients import EVERY_RULE
from custsvc.ports.store import Store

from .conftest import Client

URL = "https://crm.example.com"


def path(store: Store, customer_id: int = 7) -> str:
    return UnsubscribeLinks(store.secret(), URL).url(customer_id).removeprefix(URL)


def unwanted(store: Store, customer_id: int = 7) -> set[str]:
    return store.recipients.unwanted([customer_id]).get(customer_id, set())


def test_opening_the_link_shows_a_button_and_changes_nothing(stranger: Client, store: Store) -> None:
    answer = stranger.get(path(store))

    assert answer.status_code == 200
    assert "<button" in answer.text
    assert "customer number 7" in answer.text
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert stranger.head(path(store)).status_code == 200
    assert unwanted(store) == set()


def test_one_click_of_a_mail_program_unsubscribes(stranger: Client, store: Store) -> None:
    answer = stranger.post(path(store), data={"List-Unsubscribe": "One-Click"})

    assert answer.status_code == 200
    assert unwanted(store) == {EVERY_RULE}
    assert unwanted(store, 8) == set()


def test_the_button_unsubscribes_and_subscribes_again(stranger: Client, store: Store) -> None:
    stranger.post(path(store), data={"wanted": "no"})
    assert "Subscribe again" in stranger.get(path(store)).text

    stranger.post(path(store), data={"wanted": "yes"})

    assert unwanted(store) == set()


def test_a_link_that_was_changed_or_made_elsewhere_does_nothing(stranger: Client, store: Store) -> None:
    good = path(store)
    foreign = UnsubscribeLinks(b"another secret", URL).url(7).removeprefix(URL)

    for bad in (good[:-1], good.replace("/unsubscribe/", "/unsubscribe/1"), foreign, "/unsubscribe/7"):
        assert stranger.post(bad).status_code == 404
        assert stranger.get(bad).status_code == 404

    assert unwanted(store) == set()


def test_the_link_needs_no_key_even_where_keys_are_asked(app: Flask, store: Store) -> None:
    assert Client(app, "not-a-key").get(path(store)).status_code == 200
