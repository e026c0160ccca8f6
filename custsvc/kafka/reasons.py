"""What librdkafka and OpenSSL say about a refusal: in plain words, and with its repair."""

from __future__ import annotations

import re
from typing import Final

_OPTION: Final = "CUSTSVC_KAFKA_OPTIONS__"
NO_TOKEN: Final = "Failed to acquire SASL OAUTHBEARER token: "  # noqa: S105 - no token

# A provider of tokens that is away, and not one that refuses us: curl's words, and answers of HTTP.
_AWAY: Final = re.compile(
    r"Could not resolve|Could not connect|Failed to connect|Connection refused|timed out|Timeout was reached"
    r"|connection reset|Empty reply|Failure when receiving|Send failure|temporarily"
    r"|\b(?:429|50[0234])\b|server_error",
    re.IGNORECASE,
)
# What a broker sends when it does not accept our certificate, or TLS as we speak it.
_ALERT: Final = re.compile(
    r"alert (certificate required|bad certificate|unsupported certificate|certificate revoked"
    r"|certificate expired|certificate unknown|unknown ca|access denied|handshake failure|protocol version)"
)
_ALERTS: Final = {
    "certificate required": "it wants a certificate of ours",
    "unknown ca": "it does not know the authority of our certificate",
    "certificate expired": "our certificate has expired",
    "certificate revoked": "our certificate is revoked",
}
_OURS: Final = (
    f"set {_OPTION}SSL_CERTIFICATE_LOCATION and {_OPTION}SSL_KEY_LOCATION, by an authority of the brokers"
)
PROVIDER: Final = f"start the provider of tokens, or correct {_OPTION}SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL"
_ACLS: Final = "custsvc topics acls prints what each role needs"

# What repairs a refusal, by words of its reason; the first that fits.
_FIXES: Final = (
    (re.compile(r"certificate has expired", re.IGNORECASE), "renew the certificate of the brokers"),
    (
        re.compile(r"mismatch, certificate is not valid for", re.IGNORECASE),
        "name the brokers in CUSTSVC_KAFKA, and in their advertised.listeners, as their certificates do",
    ),
    (
        re.compile(r"certificate verify failed|issuer certificate|self.signed", re.IGNORECASE),
        f"set {_OPTION}SSL_CA_LOCATION to the file of the brokers' authority",
    ),
    (re.compile(_ALERT.pattern, re.IGNORECASE), _OURS),
    (
        re.compile(r"not valid in current SASL state", re.IGNORECASE),
        f"set {_OPTION}SECURITY_PROTOCOL to PLAINTEXT or SSL",
    ),
    (re.compile(r"speaks TLS", re.IGNORECASE), f"set {_OPTION}SECURITY_PROTOCOL to SSL or SASL_SSL"),
    (
        re.compile(r"speaks clear text", re.IGNORECASE),
        f"set {_OPTION}SECURITY_PROTOCOL to PLAINTEXT or SASL_PLAINTEXT",
    ),
    (
        re.compile(r"asks for a sign-in", re.IGNORECASE),
        "give user and password in CUSTSVC_KAFKA, or a client's certificate: docs/kafka.md",
    ),
    (
        re.compile(r"supported mechanisms|unsupported sasl", re.IGNORECASE),
        f"set {_OPTION}SASL_MECHANISM to one that the brokers have",
    ),
    (
        re.compile(
            r"unable to locate credentials|credentials can not be empty|partial credentials", re.IGNORECASE
        ),
        "give the process AWS credentials: a role of its machine or pod, "
        "or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    (
        re.compile(re.escape(NO_TOKEN), re.IGNORECASE),
        f"correct {_OPTION}SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL, …_CLIENT_ID, …_CLIENT_SECRET and …_SCOPE",
    ),
    (
        re.compile(r"invalid_token|invalid_scope|insufficient_scope", re.IGNORECASE),
        "have the provider give tokens with the audience and scope that the brokers want",
    ),
    (
        re.compile(r"invalid credentials|invalid username|authentication failed", re.IGNORECASE),
        f"correct user and password: CUSTSVC_KAFKA, or {_OPTION}SASL_USERNAME and …SASL_PASSWORD",
    ),
    (re.compile(r"authorization failed|not authorized", re.IGNORECASE), _ACLS),
)
_ANY: Final = "correct CUSTSVC_KAFKA and CUSTSVC_KAFKA_OPTIONS__*"


def is_alert(reason: str) -> bool:
    """Whether a broker refuses our certificate: librdkafka reports that as a lost connection."""
    return _ALERT.search(reason) is not None


def is_forbidden(reason: str) -> bool:
    """Whether a broker says that this account may not do it."""
    return "authorization failed" in reason


def is_too_large(reason: str) -> bool:
    """Whether a broker says that a record is too large; for an idempotent producer that is a gap."""
    return "Broker: Message size too large" in reason


def is_outage(reason: str) -> bool:
    """Whether the provider of tokens is away, which passes."""
    return NO_TOKEN in reason and _AWAY.search(reason.partition(NO_TOKEN)[2]) is not None


def is_unverified(reason: str) -> bool:
    """Whether a broker's certificate could not be verified, which librdkafka says without the reason."""
    return "certificate verify failed" in reason


def plain(reason: str) -> str:
    """The reason without the broker's name at its beginning and the state machine's state at its end."""
    reason = re.sub(r"^\S+/(bootstrap|\d+): ", "", reason.strip())
    if found := _ALERT.search(reason):
        reason = _ALERTS.get(found[1], f"it answers our certificate with: {found[1]}")
    return re.sub(r" \(after \d+ms in state \w+\)", "", reason)


def fix(reason: str) -> str:
    """What repairs it."""
    return next((fix for words, fix in _FIXES if words.search(reason)), _ANY)
