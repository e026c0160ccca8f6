"""No output shows a secret, of any form and as changed by any driver."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from custsvc import redact
from custsvc.config import Settings, describe
from custsvc.errors import ConfigurationError, CustsvcError, TemporaryError
from custsvc.notify.rules.file import load
from custsvc.runtime import logs
from tests.processes import run_custsvc

# Each piece of a canary is long enough to be told from any other word.
PIECES = st.sampled_from(("CanaryOne", "canary2two", "Kanar!", "ünïkanari", "0canary9"))
SIGNS = st.sampled_from((*"@:%+&=$,;!'\"\\~(", "%41", "%zz"))
SECRETS = st.lists(st.tuples(PIECES, SIGNS), min_size=1, max_size=3).map(
    lambda parts: "".join(piece + sign for piece, sign in parts) + "canaryEnd"
)


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_forms", set())
    monkeypatch.setattr(redact, "_pattern", None)


def _addresses(secret: str) -> Iterator[dict[str, Any]]:
    coded, pair = quote(secret, safe=""), secret.replace("\\", "\\\\").replace("'", "\\'")
    for one in (coded, secret):
        yield {"postgres_url": f"postgresql://ann:{one}@127.0.0.1:1/db"}
        yield {"mongo_url": f"mongodb://ann:{one}@127.0.0.1:1,127.0.0.1:2/db?replicaSet=rs0"}
        yield {"smtp_url": f"smtp://ann:{one}@127.0.0.1:1"}
        yield {"kafka": f"ann:{one}@127.0.0.1:1"}
        yield {"kafka": f"SASL_SSL://ann:{one}@127.0.0.1:1"}
        yield {"oidc_issuer": f"https://ann:{one}@127.0.0.1:1"}
    yield {"postgres_url": f"postgresql://127.0.0.1:1/db?user=ann&password={coded}"}
    yield {"mongo_url": f"mongodb://127.0.0.1:1/db?tlsCertificateKeyFilePassword={coded}"}
    yield {"postgres_url": f"host=127.0.0.1 port=1 user=ann password='{pair}' dbname=db"}
    yield {"kafka_options": {"sasl.password": secret}}
    yield {"kafka_options": {"ssl.key.password": secret, "sasl.jaas.config": f"x password={coded};"}}
    yield {"oidc_client_secret": secret}


def _told(found: Settings, secret: str) -> Iterator[str]:
    """Everything that may be said about these settings, and about what a driver made of them."""
    yield repr(found)
    yield orjson.dumps(describe(found)).decode()
    taken_for_host = f"{secret.partition('@')[2]}@127.0.0.1"
    spoken = [secret, quote(secret, safe=""), f'could not translate host name "{taken_for_host}"']
    for address in (found.postgres_url, found.mongo_url, found.smtp_url, found.kafka):
        spoken.append(f"bad address {address!r}")
    for text in filter(None, spoken):
        for error in (CustsvcError(text, fix=text), TemporaryError(text, dependency="x")):
            yield f"{error} {error.fix} {error!r}"
        yield from _logged(text)


def _logged(text: str) -> Iterator[str]:
    for formatter in (logs.JsonFormatter("r"), logs.TextFormatter("r")):
        try:
            raise ValueError(text)
        except ValueError:
            about: dict[str, Any] = {"msg": "it says %s", "args": (text,), "exc_info": sys.exc_info()}
            about |= {"reason": text, "deep": [{"a": text}]}
            record = logging.makeLogRecord(about)
        line = formatter.format(record)
        if isinstance(formatter, logs.JsonFormatter):
            yield orjson.dumps(orjson.loads(line)).decode()
        yield line


def _holds(text: str, secret: str) -> str | None:
    """The piece of the secret that is in the text."""
    return next((word for word in ("anary", "Kanar", "kanari") if word in text), None) if secret else None


@given(SECRETS)
@example("CanaryOne@canary2two,canaryEnd")
@example("CanaryOne,canary2two@0canary9,canaryEnd")
@example("CanaryOne@canary2two,0canary9:canaryEnd")
@settings(max_examples=25)
def test_no_secret_of_the_settings_is_shown(secret: str) -> None:
    for changes in _addresses(secret):
        redact._forms.clear()
        found = Settings(**changes)
        for text in _told(found, secret):
            assert _holds(text, secret) is None, (changes, text)


@pytest.mark.parametrize("secret", ["a", "pw", "a@b", "p@ss/w0rd#1", "se:cr@et", "ab%40cd"])
def test_a_short_secret_is_hidden_where_it_stands_as_one_and_words_stay(secret: str) -> None:
    found = Settings(postgres_url=f"postgresql://ann:{secret}@db.example.org:5432/customers")

    assert f":{secret}@" not in repr(found)
    error = ConfigurationError(f"cannot connect to {found.postgres_url}: a database in a place")
    assert f":{secret}@" not in str(error)
    assert "a database in a place" in str(error)
    assert "db.example.org:5432/customers" in str(error)


def test_an_address_without_a_secret_stays_as_it_is() -> None:
    plain = (
        *(
            "postgresql://127.0.0.1:5432/db",
            "mongodb://a:1,b:2/db?replicaSet=rs0",
            "broker1:9092,broker2:9092",
        ),
        *("http://127.0.0.1:8000/ui/mails?to=ann@example.org", "smtp://mail.example.org", "ann@example.org"),
        "a customer: 12:30 x@y",
    )

    for text in plain:
        assert str(CustsvcError(text)) == text


def test_one_account_at_several_hosts_hides_no_host() -> None:
    found = Settings(kafka="ann:Canary1@broker1:9092,ann:Canary1@broker2:9092")

    assert (
        str(CustsvcError("cannot reach broker1:9092, broker2:9092"))
        == "cannot reach broker1:9092, broker2:9092"
    )
    assert "Canary1" not in str(CustsvcError(f"bad address {found.kafka}"))


def test_an_api_key_in_a_text_is_hidden() -> None:
    assert "s" * 43 not in str(CustsvcError(f"the key csk_0123456789ab_{'s' * 43} is no key"))
    assert "csk_0123456789ab" in str(CustsvcError(f"the key csk_0123456789ab_{'s' * 43} is no key"))


def test_the_address_of_a_hook_is_a_secret(tmp_path: Path) -> None:
    rules = tmp_path / "notify.toml"
    rules.write_text(
        '[channel.ops]\nkind = "webhook"\nurl = "https://hooks.example.org/services/CANARYPATH"\n'
        'secret = "whsec_Q0FOQVJZY2FuYXJ5Q0FOQVJZ"\n'
    )
    with contextlib.suppress(CustsvcError):
        load(Settings(notify_rules=str(rules)))

    said = str(
        CustsvcError("POST https://hooks.example.org/services/CANARYPATH failed: /services/CANARYPATH")
    )

    assert "CANARYPATH" not in said
    assert "Q0FOQVJZ" not in str(CustsvcError("bad key whsec_Q0FOQVJZY2FuYXJ5Q0FOQVJZ"))


EVERYWHERE = (
    ("config", "show"),
    ("config", "show", "-o", "json"),
    ("doctor",),
    ("status",),
    ("topics", "list", "--debug"),
)
ADDRESSES = {
    "pairs": (
        "host=127.0.0.1 port=1 user=ann password=CANARYone dbname=x",
        "mongodb://ann:CANARYtwo@127.0.0.1:1,127.0.0.1:2/x?replicaSet=rs0",
    ),
    "at": ("postgresql://ann:CANARY@CANARYone@127.0.0.1:1/x", "mongodb://ann:CANARY%zzCANARY@127.0.0.1:1/x"),
    "percent": ("postgresql://ann:100%CANARY@127.0.0.1:1/x", "mongodb://ann:CANARY/one@127.0.0.1:1/x"),
    "slash": (
        "postgresql://ann:CANARY/CANARYone@127.0.0.1:1/x",
        "mongodb://ann:CANARY:@CANARY@127.0.0.1:1/x",
    ),
}


@pytest.mark.parametrize(
    ("command", "addresses"),
    [
        *((command, "pairs") for command in EVERYWHERE),
        *(
            (("migrate", "--backend", backend, "--debug"), name)
            for backend in ("postgres", "mongo")
            for name in ADDRESSES
        ),
    ],
    ids=str,
)
@pytest.mark.slow
def test_no_command_says_a_secret(tmp_path: Path, command: tuple[str, ...], addresses: str) -> None:
    postgres, mongo = ADDRESSES[addresses]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CUSTSVC_")}
    environ |= {
        "CUSTSVC_POSTGRES_URL": postgres,
        "CUSTSVC_MONGO_URL": mongo,
        "CUSTSVC_KAFKA": "ann:CANARYkafka@127.0.0.1:1",
        "CUSTSVC_KAFKA_OPTIONS__SASL_PASSWORD": "CANARYsasl",
        "CUSTSVC_KAFKA_OPTIONS__SOCKET_CONNECTION_SETUP_TIMEOUT_MS": "1000",
        "CUSTSVC_SMTP_URL": "smtp://ann:CANARYsmtp@127.0.0.1:1",
        "CUSTSVC_OIDC_CLIENT_SECRET": "CANARYoidc",
        "CUSTSVC_LOCAL": "never",
    }

    try:
        done = run_custsvc(*command, env=environ, cwd=tmp_path, seconds=25)
        said = done.stdout + done.stderr
    except subprocess.TimeoutExpired as still_trying:
        said = f"{still_trying.stdout!r}{still_trying.stderr!r}"

    assert "CANARY" not in said
    assert said
