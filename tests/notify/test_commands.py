"""`custsvc notify …`: lookups, retries, discards and trials."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from custsvc.cli import app
from custsvc.config import Settings
from custsvc.errors import CustsvcError, ExitCode
from custsvc.notify.sending.texts import Texts
from custsvc.notify.sending.upkeep import Upkeep
from custsvc.ports.ledger import NOT_KEPT, Ledger
from custsvc.ports.store import Store
from custsvc.runtime.loop import Stop
from tests.steps import settle

from .conftest import Sink, mail

Run = Callable[..., Result]


@pytest.fixture
def run(backend: str, database_url: str, sink: Sink, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command against the test's database and mail server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUSTSVC_BACKEND", backend)
    monkeypatch.setenv(f"CUSTSVC_{backend.upper()}_URL", database_url)
    monkeypatch.setenv("CUSTSVC_SMTP_URL", sink.url)
    monkeypatch.setenv("CUSTSVC_LOCAL", "never")

    def run(*arguments: str, fails: int | None = None) -> Result:
        done = CliRunner().invoke(app, ["notify", *arguments])
        if isinstance(done.exception, CustsvcError):
            assert done.exception.exit_code == fails, done.exception
        else:
            assert done.exit_code == (fails or 0), done.output
        return done

    return run


@pytest.fixture
def failed(ledger: Ledger) -> str:
    """A mail that the server refused for now, and then for good."""
    ledger.add([mail("f", to="f@example.com")])
    (first,) = ledger.claim(1, 60)
    settle(ledger, first, "deferred", reason="451 later", code=451, next_at=first.updated_on)
    (second,) = ledger.claim(1, 60)
    settle(ledger, second, "failed", reason="550 no such user", code=550)
    return "f"


def listed(done: Result) -> list[dict[str, Any]]:
    return list(json.loads(done.stdout))


def test_the_list_is_narrowed_and_is_there_for_programs_too(run: Run, ledger: Ledger, failed: str) -> None:
    ledger.add([mail("q", customer=2, to="q@example.com")])

    assert {row["id"] for row in listed(run("list", "-o", "json"))} == {"f", "q"}
    (row,) = listed(run("list", "--state", "failed", "--since", "1h", "-o", "json"))
    assert (row["id"], row["tries"], row["reason"]) == ("f", 2, "550 no such user")
    assert listed(run("list", "--to", "q@example.com", "--customer", "2", "-o", "json"))[0]["id"] == "q"
    assert run("list", "-o", "csv").stdout.splitlines()[0].startswith("id,state,customer_id")
    assert "550 no such user" in " ".join(run("list").stdout.split())
    run("list", "--state", "gone", fails=ExitCode.USAGE)


def test_one_is_shown_with_every_attempt(run: Run, failed: str) -> None:
    (shown,) = listed(run("show", failed, "-o", "json"))

    assert [(a["number"], a["outcome"], a["code"]) for a in shown["attempts"]] == [
        (1, "deferred", 451),
        (2, "failed", 550),
    ]
    assert shown["text"] == "Hello you\n"
    assert "451" in run("show", failed).stdout
    run("show", "nobody", fails=ExitCode.NOT_FOUND)


def test_a_failed_one_is_sent_again_with_one_command(run: Run, ledger: Ledger, failed: str) -> None:
    run("retry", failed, "--dry-run")
    assert ledger.counts() == {"failed": 1}

    run("retry", "--state", "failed", "--yes")

    assert ledger.counts() == {"queued": 1}
    run("retry", failed, fails=ExitCode.PARTLY_DONE)
    run("retry", fails=ExitCode.USAGE)
    run("retry", "nobody", fails=ExitCode.NOT_FOUND)


def test_without_a_terminal_a_whole_state_needs_a_yes(run: Run, ledger: Ledger, failed: str) -> None:
    run("retry", "--state", "failed", fails=ExitCode.USAGE)

    assert ledger.counts() == {"failed": 1}


def test_a_mail_that_a_newer_one_overtook_is_skipped_and_reported(
    run: Run, ledger: Ledger, failed: str
) -> None:
    ledger.add([mail("newer", version=2, to="f@example.com")])
    (newer,) = ledger.claim(1, 60)
    settle(ledger, newer, "sent")

    done = run("retry", failed, fails=ExitCode.PARTLY_DONE)
    assert "a newer mail of the customer was sent since" in done.output

    run("retry", failed, "--out-of-order")
    assert ledger.counts() == {"queued": 1, "sent": 1}


def test_unknown_ones_are_shown_with_the_ways_to_settle_them(run: Run, ledger: Ledger) -> None:
    ledger.add([mail("u")])
    (claimed,) = ledger.claim(1, 60)
    settle(ledger, claimed, "unknown", reason="no answer")

    assert listed(run("unknown", "-o", "json"))[0]["id"] == "u"
    assert "custsvc notify discard" in run("unknown").output
    run("discard", "u", "--reason", "asked them, it arrived")

    (gone,) = ledger.recent(state="discarded")
    assert gone.reason == "asked them, it arrived"
    run("discard", "u", fails=ExitCode.PARTLY_DONE)


def test_after_a_restore_nothing_is_sent_that_may_have_been_sent_since(run: Run, ledger: Ledger) -> None:
    ledger.add([mail("taken"), mail("waits", customer=2)])
    ledger.claim(1, 60)

    assert "1 claimed" in run("restored", "--dry-run").output
    run("restored", fails=ExitCode.USAGE)
    run("restored", "--yes")

    assert ledger.counts() == {"unknown": 2}
    assert {row["reason"] for row in listed(run("unknown", "-o", "json"))} == {
        "the ledger was restored from a backup: whether it was sent since is not known"
    }


def test_upkeep_drops_the_texts_of_old_mails_and_reads_none_of_them_twice(store: Store) -> None:
    store.ledger.add([mail("old"), mail("older", customer=2)])
    for claimed in store.ledger.claim(2, 60):
        settle(store.ledger, claimed, "sent")
    texts = Texts(store.ledger, store.facts, -1.0)

    Upkeep(store.ledger, Stop(), keep=60.0, texts=texts).turn()

    assert {each.text for each in store.ledger.recent()} == {NOT_KEPT}
    assert texts.drop(Stop()) == 0


def test_addresses_are_suppressed_and_allowed_again(run: Run, store: Store, tmp_path: Path) -> None:
    run("suppressions", "add", "Ada@example.com", "--reason", "complaint", "--days", "90")
    (row,) = listed(run("suppressions", "list", "-o", "json"))
    assert (row["address"], row["reason"]) == ("ada@example.com", "complaint")

    run("suppressions", "remove", "ADA@example.com")
    run("suppressions", "remove", "ada@example.com", fails=ExitCode.NOT_FOUND)
    run("suppressions", "add", "a@x.de, b@x.de", fails=ExitCode.USAGE)

    from .test_channels import REPORT

    (tmp_path / "report.eml").write_bytes(REPORT)
    run("suppressions", "bounced", str(tmp_path / "report.eml"))
    assert set(store.recipients.suppressed(["gone@example.com", "full@example.com"])) == {"gone@example.com"}


def test_a_preview_shows_the_mails_of_an_event_and_sends_nothing(
    run: Run, sink: Sink, store: Store, ledger: Ledger
) -> None:
    from custsvc.domain.customers import Fields
    from custsvc.service.customers import Caller, CustomerService

    customer = CustomerService(store.customers).create(Fields("Grace", "grace@example.com"), Caller("t"))

    (welcome,) = listed(run("preview", str(customer.id), "-o", "json"))
    assert (welcome["rule"], welcome["recipient"]) == ("welcome", "grace@example.com")
    assert "Subject: Welcome, Grace" in run("preview", f"{customer.id}.1").stdout
    assert "Ada Lovelace → Ada King" in run("preview", "--sample", "updated").stdout
    assert "<html" in run("preview", "--sample", "updated", "--html").stdout
    run("preview", f"{customer.id}.7", fails=None)
    run("preview", "999999", fails=ExitCode.NOT_FOUND)
    run("preview", "--sample", "sneezed", fails=ExitCode.USAGE)
    assert sink.accepted == []
    assert ledger.counts() == {}


def test_a_test_mail_takes_the_way_of_all_mails(run: Run, sink: Sink, ledger: Ledger) -> None:
    assert run("test", "you@example.com").stdout.startswith("sent: 250")
    assert sink.to("you@example.com")[0].message["Subject"] == "Welcome, Ada Lovelace"

    sink.rcpt["no@example.com"] = ["550 no such user"]
    assert "550 no such user" in run("test", "no@example.com", fails=ExitCode.CHECK_FAILED).stdout
    run("test", "you@example.com", "--rule", "nobody", fails=ExitCode.NOT_FOUND)
    assert ledger.counts() == {}


@pytest.mark.parametrize("backend", ["postgres"])
def test_the_defaults_are_copied_to_be_changed(run: Run, tmp_path: Path) -> None:
    done = run("init", "mine")

    assert done.stdout.strip() == "export CUSTSVC_NOTIFY_RULES=mine/notify.toml"
    (tmp_path / "mine" / "templates" / "changed.txt").write_text("Changed!\n\nBody\n")
    assert "Subject: Changed!" in run("preview", "--sample", "updated", "--rules", "mine/notify.toml").stdout
    (tmp_path / "mine" / "templates" / "changed.txt").write_text("Changed {{ nmae }}\n")
    run("preview", "--sample", "updated", "--rules", "mine/notify.toml", fails=ExitCode.CONFIGURATION)
    run("init", "mine", fails=ExitCode.CONFLICT)


def test_settings_have_the_names_that_the_pages_show() -> None:
    settings = Settings.load(environ={"CUSTSVC_NOTIFY_CAP": "5", "CUSTSVC_NOTIFY_ON_UNKNOWN": "resend"})

    assert (settings.notify_cap, settings.notify_on_unknown) == (5, "resend")
