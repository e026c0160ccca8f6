"""A refusal of Kafka has its reason and its repair: what is set wrongly is no outage."""

from __future__ import annotations

import time
from typing import Final

import pytest

from custsvc.config import Settings
from custsvc.doctor.checks import addresses
from custsvc.errors import ConfigurationError, CustsvcError, TemporaryError
from custsvc.kafka import topics
from tests.integration.secure_kafka import KEY_PASSWORD, PASSWORD, USER, SecureKafka
from tests.integration.token_provider import CLIENT, SECRET

OPTION: Final = "CUSTSVC_KAFKA_OPTIONS__"
Options = dict[str, str]

SASL: Final = {"security.protocol": "SASL_PLAINTEXT", "sasl.username": USER, "sasl.password": PASSWORD}
PLAIN: Final = {**SASL, "sasl.mechanism": "PLAIN"}
SCRAM: Final = {**SASL, "sasl.mechanism": "SCRAM-SHA-512"}
TLS: Final = {"security.protocol": "SSL", "ssl.ca.location": "CA"}
OVER_TLS: Final = {"security.protocol": "SASL_SSL", "ssl.ca.location": "CA"}
MUTUAL: Final = {**TLS, "ssl.certificate.location": "CERT", "ssl.key.location": "KEY"}
LOCKED: Final = {**MUTUAL, "ssl.key.location": "LOCKED_KEY"}
STRANGE: Final = {**TLS, "ssl.certificate.location": "STRANGE_CERT", "ssl.key.location": "STRANGE_KEY"}
TOKEN: Final = {
    **OVER_TLS,
    "sasl.mechanism": "OAUTHBEARER",
    "sasl.oauthbearer.method": "oidc",
    "sasl.oauthbearer.client.id": CLIENT,
    "sasl.oauthbearer.client.secret": SECRET,
    "sasl.oauthbearer.token.endpoint.url": "PROVIDER/token",
}


def without(options: Options, name: str) -> Options:
    return {each: value for each, value in options.items() if each != name}


# A port, options, what the error must say, and what its fix must name.
WRONG: Final[dict[str, tuple[str, Options, str, str]]] = {
    "wrong password": ("sasl_port", {**PLAIN, "sasl.password": "wrong"}, "Invalid username", "SASL_PASSWORD"),
    "unknown user": ("sasl_port", {**PLAIN, "sasl.username": "eve"}, "Invalid username", "SASL_USERNAME"),
    "wrong SCRAM password": (
        "sasl_port",
        {**SCRAM, "sasl.password": "x"},
        "invalid credentials",
        "SASL_PASSWORD",
    ),
    "SCRAM over TLS": (
        "sasl_tls_port",
        {**SCRAM, **OVER_TLS, "sasl.password": "x"},
        "invalid",
        "SASL_PASSWORD",
    ),
    "no password": ("sasl_tls_port", {**PLAIN, **OVER_TLS, "sasl.password": ""}, "sasl", "SASL_PASSWORD"),
    "wrong mechanism": (
        "sasl_port",
        {**SASL, "sasl.mechanism": "SCRAM-SHA-256"},
        "supported mechanisms: PLAIN,SCRAM-SHA-512",
        "SASL_MECHANISM",
    ),
    "no sign-in": ("sasl_port", {}, "asks for a sign-in", "CUSTSVC_KAFKA"),
    "TLS without sign-in": ("sasl_tls_port", TLS, "asks for a sign-in", "CUSTSVC_KAFKA"),
    "sign-in where there is none": ("clear_port", PLAIN, "SASL", "SECURITY_PROTOCOL"),
    "clear text to a TLS port": ("tls_port", {}, "speaks TLS", "SECURITY_PROTOCOL"),
    "TLS to a clear port": ("clear_port", TLS, "speaks clear text", "SECURITY_PROTOCOL"),
    "wrong CA": ("tls_port", {**TLS, "ssl.ca.location": "OTHER"}, "issuer certificate", "SSL_CA_LOCATION"),
    "no CA": ("tls_port", {"security.protocol": "SSL"}, "issuer certificate", "SSL_CA_LOCATION"),
    "expired certificate": ("expired_port", TLS, "certificate has expired", "renew"),
    "other name": ("elsewhere_port", TLS, "not valid for '127.0.0.1'", "advertised.listeners"),
    "no client certificate": ("mutual_port", TLS, "wants a certificate of ours", "SSL_CERTIFICATE_LOCATION"),
    "client certificate of others": (
        "mutual_port",
        STRANGE,
        "wants a certificate of ours",
        "SSL_CERTIFICATE_LOCATION",
    ),
    "wrong key password": (
        "mutual_port",
        {**LOCKED, "ssl.key.password": "x"},
        f"{OPTION}SSL_KEY_PASSWORD is wrong",
        "SSL_KEY_PASSWORD",
    ),
    "no key password": (
        "mutual_port",
        LOCKED,
        f"{OPTION}SSL_KEY_PASSWORD is not set",
        "SSL_KEY_PASSWORD",
    ),
    "no key": (
        "mutual_port",
        {**MUTUAL, "ssl.key.location": "JUNK"},
        "SSL_KEY_LOCATION is wrong: what ssl.key.location gives is not PEM",
        "SSL_KEY_LOCATION",
    ),
    "key of another": (
        "mutual_port",
        {**MUTUAL, "ssl.key.location": "STRANGE_KEY"},
        "does not belong to the certificate",
        "SSL_KEY_LOCATION",
    ),
    "wrong client secret": (
        "sasl_tls_port",
        {**TOKEN, "sasl.oauthbearer.client.secret": "guessed-it"},
        "unknown client or wrong secret",
        "SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL, …_CLIENT_ID, …_CLIENT_SECRET",
    ),
    "wrong token endpoint": (
        "sasl_tls_port",
        {**TOKEN, "sasl.oauthbearer.token.endpoint.url": "PROVIDER/tokens"},
        "there is nothing here",
        "SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL",
    ),
    "no token endpoint": (
        "sasl_tls_port",
        without(TOKEN, "sasl.oauthbearer.token.endpoint.url"),
        f"{OPTION}SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL is not set",
        "SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL",
    ),
    "wrong audience": (
        "sasl_tls_port",
        {**TOKEN, "sasl.oauthbearer.scope": "audience:other"},
        "invalid_token",
        "audience",
    ),
}
RIGHT: Final[dict[str, tuple[str, Options]]] = {
    "clear": ("clear_port", {}),
    "PLAIN": ("sasl_port", PLAIN),
    "SCRAM-SHA-256": ("sasl_tls_port", {**SCRAM, **OVER_TLS, "sasl.mechanism": "SCRAM-SHA-256"}),
    "SCRAM-SHA-512": ("sasl_port", SCRAM),
    "TLS": ("tls_port", TLS),
    "PLAIN over TLS": ("sasl_tls_port", {**PLAIN, **OVER_TLS}),
    "SCRAM over TLS": ("sasl_tls_port", {**SCRAM, **OVER_TLS}),
    "a client's certificate": ("mutual_port", MUTUAL),
    "a key with a password": ("mutual_port", {**LOCKED, "ssl.key.password": KEY_PASSWORD}),
    "a token": ("sasl_tls_port", {**TOKEN, "sasl.oauthbearer.scope": "events write"}),
    "a token with extensions": (
        "sasl_tls_port",
        {**TOKEN, "sasl.oauthbearer.extensions": "logicalCluster=lkc-1,identityPoolId=pool-1"},
    ),
}
AWAY: Final[dict[str, tuple[str, Options, str]]] = {
    "wrong port": ("127.0.0.1:1", {}, "Connection refused"),
    "unknown host": ("kafka.invalid:9092", {}, "Failed to resolve"),
    "provider of tokens down": (
        "sasl_tls_port",
        {**TOKEN, "sasl.oauthbearer.token.endpoint.url": "http://127.0.0.1:1/token"},
        "Could not connect to server",
    ),
    "provider of tokens unknown": (
        "sasl_tls_port",
        {**TOKEN, "sasl.oauthbearer.token.endpoint.url": "http://login.invalid/token"},
        "Could not resolve host",
    ),
    "provider of tokens overloaded": (
        "sasl_tls_port",
        {**TOKEN, "sasl.oauthbearer.scope": "answer:503"},
        "cannot reach Kafka",
    ),
}


def of(secure: SecureKafka, port: str, options: Options) -> Settings:
    """The settings of a case; a port that is an address is one."""
    found = {name: value.replace("PROVIDER", secure.tokens.issuer) for name, value in options.items()}
    settings = secure.settings(port if port.endswith("_port") else "clear_port", found)
    return settings if port.endswith("_port") else settings.replace(kafka=port)


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_with_its_repair_and_no_waiting_mends_it(
    secure: SecureKafka, case: str
) -> None:
    port, options, reason, fix = WRONG[case]
    settings = of(secure, port, options)
    started = time.monotonic()

    with pytest.raises(CustsvcError) as caught:
        topics.ensure_topics(settings)

    said = caught.value
    assert isinstance(said, ConfigurationError), said
    assert said.exit_code == 3
    assert reason.lower() in str(said).lower()
    assert fix in (said.fix or "")
    for secret in {PASSWORD, KEY_PASSWORD, SECRET} & set(options.values()):
        assert secret not in f"{said} {said.fix}"
    assert time.monotonic() - started < 20  # not the 30 s that ensure_topics waits for an outage


@pytest.mark.parametrize("case", ["wrong SCRAM password", "expired certificate", "wrong client secret"])
def test_doctor_and_config_check_say_the_same(secure: SecureKafka, case: str) -> None:
    port, options, reason, fix = WRONG[case]

    found = [each for each in addresses(of(secure, port, options)) if each.check == "kafka"]

    assert [each.level for each in found] == ["failed"]
    assert reason in found[0].detail
    assert fix in (found[0].fix or "")


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_right_works(secure: SecureKafka, case: str) -> None:
    assert topics.describe(of(secure, *RIGHT[case])).brokers == 1


def test_a_certificate_may_be_given_as_text(secure: SecureKafka) -> None:
    pem = {name: (secure.home / name).read_text() for name in ("CA", "CERT", "KEY")}
    options = {"ssl.ca.pem": pem["CA"], "ssl.certificate.pem": pem["CERT"], "ssl.key.pem": pem["KEY"]}

    assert topics.describe(of(secure, "mutual_port", {"security.protocol": "SSL", **options})).brokers == 1


def test_a_token_is_asked_for_with_the_scope(secure: SecureKafka) -> None:
    topics.describe(of(secure, "sasl_tls_port", {**TOKEN, "sasl.oauthbearer.scope": "one two"}))

    assert secure.tokens.asked[-1] == {"grant_type": "client_credentials", "scope": "one two"}


@pytest.mark.parametrize("case", AWAY)
def test_what_is_away_is_an_outage(secure: SecureKafka, case: str) -> None:
    port, options, reason = AWAY[case]

    with pytest.raises(CustsvcError, match=reason) as caught:
        topics.describe(of(secure, port, options), timeout=2.0)

    assert isinstance(caught.value, TemporaryError)
    assert caught.value.exit_code == 4
    assert caught.value.fix
