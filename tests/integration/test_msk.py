"""Sign-in to Amazon MSK by IAM, as far as it goes without AWS."""

from __future__ import annotations

import base64
import os
import time
from contextlib import closing
from urllib.parse import parse_qs, urlsplit

import pytest

from custsvc.config import Settings
from custsvc.errors import ConfigurationError, TemporaryError
from custsvc.kafka import client as kafka
from custsvc.kafka import msk, topics
from tests.integration.secure_kafka import SecureKafka
from tests.waiting import until

pytest.importorskip("aws_msk_iam_sasl_signer")
REGION = "eu-central-1"
LASTS = 10


@pytest.fixture(autouse=True)
def nothing_of_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token, no credentials, and no question to a machine of AWS."""
    monkeypatch.setattr(msk, "_tokens", {})
    for name in [each for each in os.environ if each.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAMADEUP")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-key")


@pytest.fixture
def settings(secure: SecureKafka) -> Settings:
    options = {"ssl.ca.location": "CA"}
    return secure.settings("sasl_tls_port", options, kafka_aws_region=REGION)


@pytest.fixture
def asked(secure: SecureKafka, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When a token was asked for: those of the provider, which this Kafka takes, for LASTS seconds each."""
    times: list[float] = []

    def make(_region: str) -> tuple[str, float]:
        times.append(time.monotonic())
        return secure.tokens.signed("service", "all", 60), time.time() + LASTS

    monkeypatch.setattr(msk, "make", make)
    return times


def test_a_token_is_a_request_to_connect_signed_for_the_region(credentials: None) -> None:
    text, expires = msk.make(REGION)

    request = urlsplit(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode())
    asked = parse_qs(request.query)
    assert request.hostname == f"kafka.{REGION}.amazonaws.com"
    assert asked["Action"] == ["kafka-cluster:Connect"]
    assert asked["X-Amz-Credential"][0].startswith("AKIAMADEUP/")
    assert f"/{REGION}/kafka-cluster/" in asked["X-Amz-Credential"][0]
    assert 600 < expires - time.time() <= 900


def test_a_client_asks_for_a_new_token_before_the_last_one_expires(
    settings: Settings, asked: list[float]
) -> None:
    with closing(kafka.consumer(settings, "custsvc-x")) as client:
        assert client.list_topics(timeout=10).brokers
        until("it asks again", lambda: (client.poll(0.1), len(asked) > 1)[1], 30)
        assert client.list_topics(timeout=10).brokers

    assert asked[1] - asked[0] < LASTS


def test_without_credentials_it_says_so(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="Unable to locate credentials") as refused:
        topics.describe(settings)

    assert "AWS_ACCESS_KEY_ID" in (refused.value.fix or "")


def test_aws_being_away_is_an_outage(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_region: str) -> tuple[str, float]:
        raise ConnectionError(
            'Could not connect to the endpoint URL: "https://sts.eu-central-1.amazonaws.com/"'
        )

    monkeypatch.setattr(msk, "make", away)

    with pytest.raises(TemporaryError, match="Could not connect to the endpoint"):
        topics.describe(settings, timeout=2.0)


def test_a_cluster_that_does_not_know_the_signer_refuses(settings: Settings, credentials: None) -> None:
    with pytest.raises(ConfigurationError, match=r"invalid_token|authentication"):
        topics.describe(settings)
