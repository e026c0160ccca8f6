"""`doctor`, `config` and `topics` name each problem with its fix, and change nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import uuid
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from custsvc.config import Settings, describe
from custsvc.doctor import checks as doctor
from custsvc.doctor.checks import Finding
from custsvc.kafka import topics
from custsvc.notify.gauges import notification_gauges
from custsvc.notify.rules import file as rulefile
from custsvc.notify.sending.upkeep import Upkeep
from custsvc.ports.endpoints import Endpoint
from custsvc.ports.ledger import Notification
from custsvc.ports.store import Store
from custsvc.relay.guard import check_topic
from custsvc.runtime.loop import Stop
from tests.backdoor import Backdoor
from tests.databases import address, settings_of
from tests.processes import run_custsvc


def levels(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.level for finding in findings}


def run(*arguments: str, cwd: Path, **environment: str) -> CompletedProcess[str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("CUSTSVC_")}
    return run_custsvc(*arguments, env={**ours, **environment}, cwd=cwd)


def test_doctor_finds_a_migrated_database_in_order_and_an_empty_one_with_the_fix(
    backend: str, database_url: str, empty_database: str
) -> None:
    def look(url: str) -> list[Finding]:
        settings = settings_of(backend, url)
        return [f for f in doctor.addresses(settings) if f.check.startswith(backend)]

    rights = [f"rights of {role}" for role in ("serve", "relay", "notify", "commands", "migrate")]
    checks = [backend, *(f"{backend} {each}" for each in ("schema", *rights, "growth"))]
    assert levels(look(database_url)) == dict.fromkeys(checks, "ok")
    _, schema = look(empty_database)
    assert schema.level == "warning"
    assert schema.fix == f"custsvc migrate --backend {backend}"
    assert levels(look(empty_database)) == {backend: "ok", f"{backend} schema": "warning"}, "nothing changed"


def test_doctor_reports_a_wrongly_blocked_mail_with_the_fix(
    backend: str, database_url: str, store: Store, backdoor: Backdoor
) -> None:
    def look() -> Finding:
        settings = settings_of(backend, database_url)
        (found,) = [finding for finding in doctor.addresses(settings) if finding.check == "mails"]
        return found

    assert look().level == "ok"
    store.ledger.add([Notification("m", "e", 1, 1, "changed", "a@example.com", "Hi", "Hello\n", None)])
    backdoor.block("m", "nobody")

    found = look()
    assert (found.level, found.detail.split()[0]) == ("warning", "1")
    assert "custsvc notify" in (found.fix or "")
    assert notification_gauges(store.ledger.counts, store.ledger.stuck) == {
        "custsvc_notifications{state=queued}": 1,
        "custsvc_notifications_stuck": 1,
    }

    Upkeep(store.ledger, Stop(), keep=60.0).turn()
    assert look().level == "ok"


def test_doctor_reports_a_failing_or_paused_webhook_with_the_fix(
    backend: str, database_url: str, store: Store
) -> None:
    def look() -> list[tuple[str, str]]:
        found = doctor.addresses(settings_of(backend, database_url))
        return [(each.detail, each.fix or "") for each in found if each.check == "webhook crm"]

    store.endpoints.add(Endpoint("crm", "https://crm.example.com/", ("created",), "t"), "s")
    assert look() == []
    store.endpoints.failed("crm", "500 no", 60.0)
    assert ["fails since" in detail for detail, _ in look()] == [True]
    store.endpoints.failed("crm", "500 no", 0.0)
    ((detail, fix),) = look()
    assert "is paused, 0 deliveries wait: 500 no" in detail
    assert "custsvc webhooks resume crm" in fix


def test_doctor_and_the_ledger_name_a_channel_that_the_rules_lack_while_something_waits_for_it(
    backend: str, database_url: str, store: Store, tmp_path: Path
) -> None:
    def look(name: str) -> list[tuple[str, str, str]]:
        rules = tmp_path / "notify.toml"
        channel = f'[channel.{name}]\nkind = "webhook"\nurl = "https://crm.example.com/"\n'
        rule = f'[[rule]]\nname = "hook"\nops = ["created"]\nchannel = "{name}"\n'
        rules.write_text(f'{channel}secret = "whsec_{"A" * 32}"\n{rule}')
        settings = settings_of(backend, database_url).replace(notify_rules=str(rules))
        assert not rulefile.findings(settings)
        found = doctor.addresses(settings)
        return [(each.level, each.detail, each.fix or "") for each in found if each.check == "channel crm"]

    def row(number: int, channel: str) -> Notification:
        name = f"{channel}-{number}"
        return Notification(name, name, number, 1, "hook", channel, "", "{}", None, channel=channel)

    waiting = [row(1, "crm"), row(2, "crm"), row(3, "webhook:one"), row(4, "mail")]
    store.ledger.add([*waiting, dataclasses.replace(row(5, "old"), state="sent")])

    assert store.ledger.unserved([]) == {"crm": 2}
    assert store.ledger.unserved(["crm"]) == {}
    assert look("crm") == []
    ((level, detail, fix),) = look("team")
    assert level == "warning"
    assert "2 wait for channel crm" in detail
    assert "[channel.crm]" in fix
    assert store.ledger.counts() == {"queued": 4, "sent": 1}, "nothing is deleted"


def test_a_database_reports_its_pending_migrations_and_its_clock(store: Store, servers: Any) -> None:
    assert store.pending_migrations() == []
    assert store.clock() > 1_700_000_000


def test_topics_are_described_as_they_are(settings: Settings) -> None:
    cluster = topics.describe(settings)

    assert cluster.brokers >= 1
    updates, _, _, dead = cluster.topics
    assert (updates.name, updates.partitions) == (settings.topic_updates, 4)
    assert updates.config["cleanup.policy"] == "compact"
    assert dead.config["retention.ms"] == str(14 * 24 * 3600 * 1000)
    assert set(levels(list(doctor.addresses(settings))).values()) <= {"ok", "warning"}


def test_a_topic_that_got_other_partitions_is_a_failure_with_the_way_out(
    store: Store, backend: str, database_url: str, settings: Settings
) -> None:
    mine = settings.replace(**address(backend, database_url))
    check_topic(mine, store.facts)
    before = levels(list(doctor.addresses(mine)))

    store.facts.put(f"topic:{mine.topic_updates}", '{"id": "", "partitions": 24}')
    (problem,) = [f for f in doctor.addresses(mine) if f.check == "topic layout"]

    assert "topic layout" not in before
    assert problem.level == "failed"
    assert "it had 24" in problem.detail
    assert "custsvc replay" in (problem.fix or "")


def test_topics_that_are_missing_are_named_and_made(servers: Any, tmp_path: Path) -> None:
    mine = f"mine-{uuid.uuid4().hex[:8]}"
    environment = {
        "CUSTSVC_KAFKA": servers.url("kafka"),
        "CUSTSVC_LOCAL": "never",
        **{
            f"CUSTSVC_TOPIC_{kind}": f"{mine}-{kind.lower()}"
            for kind in ("UPDATES", "NOTIFY", "FAILED", "DEAD")
        },
    }

    planned = run("topics", "create", "--partitions", "2", "--dry-run", cwd=tmp_path, **environment)
    before = run("topics", "list", "-o", "json", cwd=tmp_path, **environment)
    made = run("topics", "create", "--partitions", "2", cwd=tmp_path, **environment)
    after = run("topics", "list", "-o", "json", cwd=tmp_path, **environment)

    assert planned.stderr == made.stderr.replace("created", "would create", 1)
    assert [t["partitions"] for t in json.loads(before.stdout)] == [0, 0, 0, 0]
    assert json.loads(after.stdout)[0]["partitions"] == 2


@pytest.mark.parametrize(
    ("variable", "value", "check"),
    [
        ("CUSTSVC_POSTGRES_URL", "postgresql://nobody:s3cret@127.0.0.1:9/x", "postgres"),
        ("CUSTSVC_MONGO_URL", "mongodb://127.0.0.1:9/x?replicaSet=rs0", "mongo"),
        ("CUSTSVC_KAFKA", "127.0.0.1:9", "kafka"),
        ("CUSTSVC_SMTP_URL", "smtp://someone:s3cret@127.0.0.1:9", "mail server"),
    ],
)
def test_a_server_that_is_not_there_fails_the_check_with_a_fix(
    tmp_path: Path, variable: str, value: str, check: str
) -> None:
    done = run("config", "check", "-o", "json", cwd=tmp_path, CUSTSVC_LOCAL="never", **{variable: value})

    assert done.returncode == 7, done.stderr
    (failed,) = [f for f in json.loads(done.stdout) if f["level"] == "failed"]
    assert failed["check"] == check
    assert failed["fix"]
    assert "s3cret" not in done.stdout + done.stderr


def test_a_file_with_secrets_that_others_can_read_is_a_warning_and_strict_makes_it_a_failure(
    tmp_path: Path,
) -> None:
    file = tmp_path / ".env"
    file.write_text("CUSTSVC_SMTP_URL=smtp://someone:s3cret@mail.example.com\n")
    file.chmod(0o644)

    def warned(findings: str) -> bool:
        return any(f["check"] == "file .env" for f in json.loads(findings))

    open_to_all = run(
        "doctor", "--strict", "-o", "json", cwd=tmp_path, CUSTSVC_LOCAL="never", CUSTSVC_SMTP_URL=""
    )
    file.chmod(0o600)
    closed = run("doctor", "-o", "json", cwd=tmp_path, CUSTSVC_LOCAL="never", CUSTSVC_SMTP_URL="")

    assert open_to_all.returncode == 7
    assert warned(open_to_all.stdout)
    assert not warned(closed.stdout)


def test_settings_are_shown_with_their_origin_and_without_their_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {
        "CUSTSVC_POSTGRES_URL": "postgresql://me:s3cr/et@db:5432/custsvc?sslpassword=s3cret&sslmode=require",
        "CUSTSVC_MONGO_URL": "mongodb://me:s3cret@a:1,b:2/custsvc?replicaSet=rs0",
        "CUSTSVC_KAFKA_OPTIONS__SASL_PASSWORD": "s3cret",
        "CUSTSVC_THREADS": "8",
    }

    shown = {row["setting"]: row for row in describe(Settings.load({"backend": "mongo"}, environ=environ))}

    assert not [row for row in shown.values() if "s3cr" in row["value"]]
    assert shown["CUSTSVC_MONGO_URL"]["value"] == "mongodb://me:***@a:1,b:2/custsvc?replicaSet=rs0"
    assert "sslmode=require" in shown["CUSTSVC_POSTGRES_URL"]["value"]
    assert shown["CUSTSVC_THREADS"] == {"setting": "CUSTSVC_THREADS", "value": "8", "origin": "environment"}
    assert shown["CUSTSVC_BACKEND"]["origin"] == "flag"
    assert shown["CUSTSVC_WORKERS"]["origin"] == "default"
